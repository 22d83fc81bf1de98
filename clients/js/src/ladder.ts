/**
 * The ladder: which transport to open, to race, to leave and to climb back to. Events and the time go in, orders come
 * out; it knows no sockets, timers, topics or cursors. Rungs are numbered from the best, 0, down.
 *
 * There is at most one *carrier*, the attempt that delivers. Others may be open beside it: that is how every switch is
 * made before the old connection is broken.
 */
import { fullJitter, lateness } from "./backoff.js";
import * as limits from "./limits.js";

export type Rung = "websocket" | "stream" | "long-poll" | "poll";
export type State = "connecting" | "live" | "degraded" | "offline" | "closed";

/** What is told to the ladder. Numbers, as these names are in every page that loads the client. */
export const enum Kind {
  Start, Stop, Renew, Offline, Network, Tick, Opened, Alive, Audited, Ended, Changed,
}

export type LadderEvent =
  /** There is something to carry, or there is nothing. */
  | { kind: Kind.Start | Kind.Stop }
  /** The carrier can't carry what there is to carry; open another beside it. */
  | { kind: Kind.Renew }
  /** The network is gone; it is back, or is another one, or the machine slept. */
  | { kind: Kind.Offline | Kind.Network }
  | { kind: Kind.Tick }
  /** Of one attempt: the head of the answer came; a sign of life, with a message in it or not, and whether it delivers by now. */
  | { kind: Kind.Opened; id: object }
  | { kind: Kind.Alive; id: object; message: boolean; up: boolean }
  /** An audit found nothing wrong. */
  | { kind: Kind.Audited; id: object }
  /** It ended. `retry_after` is the broker's word on when to come back; then the transport isn't to blame. `retry_ms` is no less to be waited if it is. */
  | { kind: Kind.Ended; id: object; why: string; retry_after?: number | undefined; retry_ms?: number | undefined };

/** What the ladder has done. */
export interface Orders {
  open(id: object, rung: Rung): void;
  close(id: object): void;
  /** From now on this attempt is the carrier. */
  carry(id: object, rung: Rung, why: string): void;
  /** Ask by a plain page whether the carrier holds lines back. */
  audit(id: object): void;
}

const enum Purpose {
  Search, Climb, Renew,
}

/** Outside of the ladder nothing but a name, the `id` of events and orders. */
interface Attempt {
  rung: number;
  purpose: Purpose;
  /** 0: opening, 1: the head of the answer is there, 2: it delivers. */
  phase: 0 | 1 | 2;
  /** When this phase began. */
  since: number;
  /** When it is given up, unless it shows life. */
  deadline: number;
  race_at: number;
  /** Where to go when it fails for good: where it came from, or the next rung. */
  below: number;
  /** Messages came since the last audit that was answered, the last line at this time. */
  heard: boolean;
  line_at: number;
  audit_after: number;
}

/** What is to be done, and from when on. */
type Timer = [at: number, run: () => void];

export interface Ladder {
  readonly state: State;
  /** When the next `tick` is due. */
  readonly next_at: number;
  /** `held` is for how long, all in all, nothing could be opened for want of a token: it counts against no attempt. */
  handle(event: LadderEvent, now: number, held: number): void;
}

export function ladderOf(rungs: readonly Rung[], base: number, random: () => number, orders: Orders): Ladder {
  /** When what is being handled happened. */
  let now = 0;
  let held = 0;
  let wanted = false;
  let offline = false;
  /** All that is open, the carrier among them. */
  const attempts = new Set<Attempt>();
  let carrier: Attempt | undefined;
  const remembered = base;
  /** What went wrong with each rung, the last time that something did. */
  const blame: string[] = [];
  /** The rung that carried last. */
  let carried = -1;
  /** When to search for a carrier; if there is one, when to renew it. */
  let open_at = Infinity;
  let climb_at = Infinity;
  let climb_step: number = limits.climb_first;
  let failures = 0;
  /** When each rung was cut. */
  const strikes: number[][] = rungs.map(() => []);

  return {
    get state() {
      if (offline) return "offline";
      if (!carrier) return "connecting";
      return carrier.rung ? "degraded" : "live";
    },
    get next_at() {
      return Math.min(...timers().map(([at]) => at));
    },
    handle,
  };

  function handle(event: LadderEvent, at: number, held_now: number): void {
    now = at;
    const more = held_now - held;
    held = held_now;
    // The carrier has its token: its silence is its own.
    for (const attempt of attempts) if (attempt.phase < 2) {
      attempt.deadline += more;
      attempt.race_at += more;
    }
    if ("id" in event) {
      const attempt = event.id as Attempt;
      if (attempts.has(attempt)) of(attempt, event);
    } else if (event.kind === Kind.Start) {
      wanted = true;
      if (!attempts.size && open_at === Infinity) open_at = now;
    } else if (event.kind === Kind.Stop) {
      wanted = false;
      for (const attempt of attempts) close(attempt);
      open_at = climb_at = Infinity;
    } else if (event.kind === Kind.Renew) {
      open_at = now;
    } else if (event.kind !== Kind.Tick) {
      network(event.kind === Kind.Offline);
    }
    for (let due; (due = timers().find(([at]) => now >= at)); ) due[1]();
  }

  function of(attempt: Attempt, event: Extract<LadderEvent, { id: object }>): void {
    if (event.kind === Kind.Opened) {
      enter(attempt, 1);
    } else if (event.kind === Kind.Alive) {
      // A line is better evidence than what the system says of the network.
      offline = false;
      attempt.heard ||= event.message;
      attempt.line_at = now;
      extend(attempt);
      if (event.up && attempt.phase < 2) up(attempt);
    } else if (event.kind === Kind.Audited) {
      // Unless a line came meanwhile.
      attempt.heard = now - attempt.line_at < limits.audit_first;
    } else {
      ended(attempt, event.why, event.retry_after, event.retry_ms);
    }
  }

  /** What comes by itself, and when. Whatever is done moves its own time, or takes it out. */
  function timers(): Timer[] {
    const all: Timer[] = [];
    for (const attempt of attempts) {
      all.push(
        [attempt.deadline, () => ended(attempt, lateness(attempt.phase, patience(attempt)))],
        [attempt.race_at, () => late(attempt)],
        [auditAt(attempt), () => audit(attempt)],
      );
    }
    if (!wanted || offline || beside()) return all;
    all.push([open_at, () => (carrier ? open(carrier.rung, Purpose.Renew) : open(base, Purpose.Search))]);
    if (carrier) all.push([climb_at, () => open(0, Purpose.Climb)]);
    return all;
  }

  function late(attempt: Attempt): void {
    attempt.race_at = Infinity;
    blame[attempt.rung] = `${rungs[attempt.rung]} took more than ${limits.race / 1000} s to open`;
    below(attempt);
  }

  function audit(attempt: Attempt): void {
    attempt.audit_after = 2 * (now - attempt.line_at);
    orders.audit(attempt);
  }

  function open(rung: number, purpose: Purpose): void {
    if (purpose === Purpose.Climb) climb_at = Infinity;
    else open_at = Infinity;
    const attempt: Attempt = {
      rung, purpose, phase: 0, since: now, line_at: now, heard: false, audit_after: limits.audit_first, below: rung + 1,
      deadline: now + limits.opening,
      race_at: purpose === Purpose.Search ? now + limits.race : Infinity,
    };
    attempts.add(attempt);
    orders.open(attempt, rungs[rung]!);
  }

  function enter(attempt: Attempt, phase: 1 | 2): void {
    attempt.phase = phase;
    attempt.since = attempt.line_at = now;
    attempt.race_at = Infinity;
    extend(attempt);
  }

  function up(attempt: Attempt): void {
    const before = carrier;
    const { rung } = attempt;
    enter(attempt, 2);
    offline = false;
    carrier = attempt;
    open_at = Infinity;
    orders.carry(attempt, rungs[rung]!, whyTo(rung));
    // What is still opening further up may yet win; the rest has lost.
    for (const other of attempts) if (other !== attempt && (other === before || other.rung >= rung)) close(other);
    if (!rung) climb_at = Infinity;
    else if (climb_at === Infinity) climbLater();
    if (before && before.rung > rung) attempt.below = before.rung;
    base = carried = rung;
  }

  /** What is wrong with the rung that is left; at first, with the one above. */
  function whyTo(rung: number): string {
    if (rung < carried) return "it answers again";
    return blame[carried] ?? blame[rung - 1] ?? (rung && rung === remembered ? "it worked last time" : "it is the first choice");
  }

  /** `retry_after` are words of the broker, so the way is fine, and another transport would hear the same. */
  function ended(attempt: Attempt, why: string, retry_after?: number, retry_ms = 0): void {
    const { rung, purpose } = attempt;
    const blamed = retry_after === undefined;
    const carried = attempt === carrier;
    close(attempt);
    if (carried) {
      for (const other of attempts) other.purpose = Purpose.Search;
      if (blamed) lost(attempt, why, retry_ms);
      else open_at = now + spread(retry_after);
    } else if (purpose === Purpose.Climb && carrier) {
      if (blamed && rung + 1 < carrier.rung) open(rung + 1, purpose);
      else climbLater(retry_after);
    } else {
      if (blamed) {
        blame[rung] = `${rungs[rung]}: ${why}`;
        below(attempt);
      }
      if (!beside()) roundFailed(retry_after);
    }
  }

  /** Opens the rung below, unless one there is open already. */
  function below({ rung, purpose }: Attempt): void {
    const taken = [...attempts].some((other) => other !== carrier && other.rung > rung);
    if (rung + 1 < rungs.length && !taken) open(rung + 1, purpose);
  }

  function roundFailed(retry_after = 0): void {
    open_at = now + Math.max(backoff(), spread(retry_after));
    // Nothing worked, so no rung is to blame. Where it goes on like that, what worked last is no guide either.
    if (failures > 2) base = 0;
  }

  /** The carrier ended: come back to the same rung, or after too many of these, to the one below. */
  function lost({ rung, since, purpose, below }: Attempt, why: string, retry_ms: number): void {
    const lived = now - since;
    if (lived >= limits.stable) failures = 0;
    // Climbs that failed don't count any more once a rung has carried for so long.
    if (lived >= limits.strike_window) climb_step = limits.climb_first;
    const cuts = (strikes[rung] = strikes[rung]!.filter((at) => now - at < limits.strike_window));
    const often = cuts.push(now) >= limits.strikes;
    const climbed = purpose === Purpose.Climb && lived < limits.probation;
    open_at = now + (climbed ? 0 : spread(retry_ms) + backoff());
    blame[rung] = `${rungs[rung]} was lost${often ? ` ${limits.strikes} times in ${limits.strike_window / 60_000} minutes` : ""}: ${why}`;
    if (below < rungs.length && (climbed || often)) {
      // Another rung begins anew: the way from one that is cut every few seconds to one that isn't shall take seconds too.
      cuts.length = failures = 0;
      base = below;
    }
  }

  /** The network is gone, or another one: what stood in the way of a better transport may be gone too. */
  function network(gone: boolean): void {
    offline = gone;
    for (const attempt of attempts) if (attempt !== carrier) close(attempt);
    if (gone) return;
    failures = base = 0;
    climb_step = limits.climb_first;
    if (carrier) open(0, Purpose.Renew);
    else if (wanted) open_at = now;
  }

  function close(attempt: Attempt): void {
    attempts.delete(attempt);
    if (attempt === carrier) carrier = undefined;
    orders.close(attempt);
  }

  /** A quarter sooner or later, so that clients which began together don't stay together. */
  function climbLater(retry_after = 0): void {
    climb_at = now + Math.max(retry_after, climb_step * (0.75 + random() / 2));
    climb_step = Math.min(limits.climb_max, climb_step * 2);
  }

  /** Many clients may have heard the same time to come back. */
  function spread(ms: number): number {
    return ms * (1 + random() / 4);
  }

  function backoff(): number {
    return fullJitter(failures++, random);
  }

  /** Whether something is open beside the carrier, or without one. */
  function beside(): boolean {
    return attempts.size > (carrier ? 1 : 0);
  }

  function extend(attempt: Attempt): void {
    attempt.deadline = now + patience(attempt);
  }

  function patience({ rung, phase }: Attempt): number {
    // Between polls nothing is heard, so only connections are given up for their silence.
    return [limits.opening, limits.first_line, rungs[rung]!.endsWith("poll") ? Infinity : limits.silence][phase]!;
  }

  /** Four times at most: a fifth would come after any silence that a connection or a long-poll can have. */
  function auditAt(attempt: Attempt): number {
    const { rung, heard, line_at, audit_after } = attempt;
    const audited = attempt === carrier && heard && rungs[rung] !== "poll";
    return audited ? line_at + audit_after : Infinity;
  }
}
