/** Options of applications, checked where they come in: a typo would be silent else. */

/** Throws for an option that is left over once all that exist were taken out, and that is none of `others`. */
export function refuseUnknown(left: object, others: object = {}): void {
  for (const name in left) if (!(name in others)) throw new TypeError(`Unknown option: ${name}`);
}
