/**
 * The fallback: a state machine that decides which transport to open, to race, to leave and to climb back to. Events and
 * the time go in, orders come out; it knows no sockets, timers, topics or cursors. Transports are numbered from the best,
 * 0, down.
 *
 * At most one attempt is *active*: it delivers. Others may be open beside it, so that every switch opens the new
 * connection before the old one is closed.
 */
import { backoff, lateness } from "./backoff.js";
import * as limits from "./limits.js";

export type Transport = "websocket" | "stream" | "long-poll" | "poll";
export type State = "connecting" | "live" | "degraded" | "offline" | "closed";

/** Events of the fallback. Numbers, as these names are in every page that loads the client. */
export const enum Kind {
  Start, Stop, Renew, Offline, Network, Tick, Opened, Alive, Audited, Ended, Changed, Answered,
}

export type FallbackEvent =
  /** There are subscriptions to serve, or there are none. */
  | { kind: Kind.Start | Kind.Stop }
  /** The active attempt can't serve all subscriptions; open another beside it. */
  | { kind: Kind.Renew }
  /** The network is gone; it is back, or is another one, or the machine slept. */
  | { kind: Kind.Offline | Kind.Network }
  /** Some request was answered, so a wait between tries has lost its reason. */
  | { kind: Kind.Answered }
  | { kind: Kind.Tick }
  /** Of one attempt: the head of the answer came; a sign of life, with a message in it or not, and whether it delivers by now. */
  | { kind: Kind.Opened; id: object }
  | { kind: Kind.Alive; id: object; message: boolean; up: boolean }
  /** An audit found nothing wrong. */
  | { kind: Kind.Audited; id: object }
  /** It ended. `retry_after` is when the broker asks to come back; then the transport isn't to blame. `retry_ms` is the least wait if it is. */
  | { kind: Kind.Ended; id: object; why: string; retry_after?: number | undefined; retry_ms?: number | undefined };

/** Orders of the fallback to its hub. */
export interface Orders {
  open(id: object, transport: Transport): void;
  close(id: object): void;
  /** From now on this attempt is the active one. */
  activate(id: object, transport: Transport, why: string): void;
  /** A transport failed, for a reason that is another than the last time. */
  failed(transport: Transport, why: string): void;
  /** Ask by a page whether lines of the active attempt are buffered on the way. */
  audit(id: object): void;
}

const enum Purpose {
  Search, Climb, Renew,
}

/** Elsewhere nothing but a name: the `id` of events and orders. */
interface Attempt {
  transport: number;
  purpose: Purpose;
  /** 0: opening, 1: the head of the answer is there, 2: it delivers. */
  phase: 0 | 1 | 2;
  /** When this phase began. */
  since: number;
  /** When it is given up, unless it shows a sign of life. */
  deadline: number;
  race_at: number;
  /** Where to go when it fails for good: where it came from, or the next transport. */
  below: number;
  /** Messages came since the last audit that was answered, the last line at this time. */
  heard: boolean;
  line_at: number;
  audit_after: number;
}

/** A deadline, and what is due then. */
type Timer = [at: number, run: () => void];

export interface Fallback {
  readonly state: State;
  /** When the next `tick` is due. */
  readonly next_at: number;
  /** `token_wait` is the total time in which no connection could be opened for want of a token: it counts against no attempt. */
  handle(event: FallbackEvent, now: number, token_wait: number): void;
}

export function fallbackOf(transports: readonly Transport[], base: number, random: () => number, orders: Orders): Fallback {
  /** When what is being handled happened. */
  let now = 0;
  let token_wait = 0;
  let wanted = false;
  let offline = false;
  /** All that is open, the active one included. */
  const attempts = new Set<Attempt>();
  let active: Attempt | undefined;
  const remembered = base;
  /** Why each transport failed the last time, if it hasn't delivered since. */
  const reasons: (string | undefined)[] = [];
  /** The transport that was active last. */
  let last_active = -1;
  /** When to search for an active attempt; if there is one, when to renew it. */
  let open_at = Infinity;
  let climb_at = Infinity;
  let climb_step: number = limits.climb_first;
  /** Before this time no answer begins a search: a moment after the last one, or when the other side said. */
  let free_at = 0;
  /** Since when there are no messages, but for moments. */
  let down_at = 0;
  /** Searches in a row that found no transport at all, since one was active. */
  let rounds = 0;
  /** When each transport was cut. */
  let strikes: number[][] = [];

  return {
    get state() {
      if (offline) return "offline";
      if (!active) return "connecting";
      return active.transport ? "degraded" : "live";
    },
    get next_at() {
      return Math.min(...timers().map(([at]) => at));
    },
    handle,
  };

  function handle(event: FallbackEvent, at: number, token_wait_now: number): void {
    now = at;
    const more = token_wait_now - token_wait;
    token_wait = token_wait_now;
    // The active attempt has its token: its silence is its own.
    for (const attempt of attempts) if (attempt.phase < 2) {
      attempt.deadline += more;
      attempt.race_at += more;
    }
    if ("id" in event) {
      const attempt = event.id as Attempt;
      if (attempts.has(attempt)) of(attempt, event);
    } else if (event.kind === Kind.Start) {
      if (!wanted) down_at = now;
      wanted = true;
      if (!attempts.size && open_at === Infinity) open_at = now;
    } else if (event.kind === Kind.Stop) {
      wanted = false;
      for (const attempt of attempts) close(attempt);
      open_at = climb_at = Infinity;
    } else if (event.kind === Kind.Renew) {
      open_at = now;
    } else if (event.kind === Kind.Answered) {
      offline = false;
      if (wanted && !active) open_at = Math.min(open_at, Math.max(now, free_at));
    } else if (event.kind !== Kind.Tick) {
      network(event.kind === Kind.Offline);
    }
    for (let due; (due = timers().find(([at]) => now >= at)); ) due[1]();
  }

  function of(attempt: Attempt, event: Extract<FallbackEvent, { id: object }>): void {
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

  /** The deadlines of now. Each run moves its own deadline, or takes it out. */
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
    all.push([open_at, () => (active ? open(active.transport, Purpose.Renew) : open(rounds && wholeList() ? 0 : base, Purpose.Search))]);
    if (active) all.push([climb_at, () => open(0, Purpose.Climb)]);
    return all;
  }

  function late(attempt: Attempt): void {
    attempt.race_at = Infinity;
    blame(attempt, ` took more than ${limits.race / 1000} s to open`);
    below(attempt);
  }

  function audit(attempt: Attempt): void {
    attempt.audit_after = 2 * (now - attempt.line_at);
    orders.audit(attempt);
  }

  function open(transport: number, purpose: Purpose): void {
    if (purpose === Purpose.Climb) climb_at = Infinity;
    else open_at = Infinity;
    if (purpose === Purpose.Search) free_at = now + limits.race;
    const attempt: Attempt = {
      transport, purpose, phase: 0, since: now, line_at: now, heard: false, audit_after: limits.audit_first, below: transport + 1,
      deadline: now + limits.opening,
      race_at: purpose === Purpose.Search ? now + limits.race : Infinity,
    };
    attempts.add(attempt);
    orders.open(attempt, transports[transport]!);
  }

  function enter(attempt: Attempt, phase: 1 | 2): void {
    attempt.phase = phase;
    attempt.since = attempt.line_at = now;
    attempt.race_at = Infinity;
    extend(attempt);
  }

  function up(attempt: Attempt): void {
    const before = active;
    const { transport } = attempt;
    enter(attempt, 2);
    offline = false;
    active = attempt;
    open_at = Infinity;
    orders.activate(attempt, transports[transport]!, whyTo(transport));
    reasons[transport] = undefined;
    // An attempt at a better transport that is still opening may yet win the race; the others have lost.
    for (const other of attempts) if (other !== attempt && (other === before || other.transport >= transport)) close(other);
    if (!transport) climb_at = Infinity;
    // After an outage a better transport may have failed for no other reason than that its turn came too early.
    else if (rounds || (last_active >= 0 && transport > base)) climb_at = now + spread(limits.climb_soon);
    else if (climb_at === Infinity) climbLater();
    rounds = 0;
    if (before && before.transport > transport) attempt.below = before.transport;
    base = last_active = transport;
  }

  /** The fault of the transport that is left; at first, of the one above. */
  function whyTo(transport: number): string {
    if (transport < last_active) return "it answers again";
    return reasons[last_active] ?? reasons[transport - 1] ?? (transport && transport === remembered ? "it worked last time" : "it is the first choice");
  }

  /** `retry_after` are words of the broker, so the way is fine, and another transport would hear the same. */
  function ended(attempt: Attempt, why: string, retry_after?: number, retry_ms = 0): void {
    const { transport, purpose } = attempt;
    const blamed = retry_after === undefined;
    const was_active = attempt === active;
    close(attempt);
    if (was_active) {
      for (const other of attempts) other.purpose = Purpose.Search;
      if (blamed) lost(attempt, why, retry_ms);
      else open_at = free_at = now + spread(retry_after);
    } else if (purpose === Purpose.Climb && active) {
      if (blamed && transport + 1 < active.transport) open(transport + 1, purpose);
      else climbLater(retry_after);
    } else {
      if (blamed) {
        blame(attempt, `: ${why}`);
        if (wholeList()) below(attempt);
      }
      if (!beside()) roundFailed(retry_after);
    }
  }

  /** Opens the transport below, unless one there is open already. */
  function below({ transport, purpose }: Attempt): void {
    const taken = [...attempts].some((other) => other !== active && other.transport > transport);
    if (transport + 1 < transports.length && !taken) open(transport + 1, purpose);
  }

  /** Nothing worked: an outage, for which no transport is to blame. */
  function roundFailed(retry_after = 0): void {
    if (last_active >= 0) rounds++;
    strikes = [];
    const retry_at = now + spread(retry_after);
    free_at = Math.max(free_at, retry_at);
    open_at = Math.max(retry_at, now + wait());
  }

  /**
   * Whether a search goes down the list. In an outage most ask only for the transport that was active last: that spares
   * a broker that is about to come back, and it is the one that will work.
   */
  function wholeList(): boolean {
    return !(rounds % limits.whole_list);
  }

  function blame({ transport }: Attempt, why: string): void {
    const name = transports[transport]!;
    if (reasons[transport] !== (reasons[transport] = name + why)) orders.failed(name, name + why);
  }

  /** The active attempt ended: come back to the same transport, or after too many of these, to the one below. */
  function lost(attempt: Attempt, why: string, retry_ms: number): void {
    const { transport, since, purpose, below } = attempt;
    const lived = now - since;
    if (lived >= limits.stable) down_at = now;
    // Climbs that failed don't count any more once a transport has delivered for so long.
    if (lived >= limits.strike_window) climb_step = limits.climb_first;
    const cuts = (strikes[transport] = (strikes[transport] ?? []).filter((at) => now - at < limits.strike_window));
    const often = cuts.push(now) >= limits.strikes;
    const climbed = purpose === Purpose.Climb && lived < limits.probation;
    open_at = now + (climbed ? 0 : Math.max(retry_ms, wait()));
    blame(attempt, ` was lost${often ? ` ${limits.strikes} times in ${limits.strike_window / 60_000} minutes` : ""}: ${why}`);
    if (below < transports.length && (climbed || often)) {
      // Another transport begins anew: the way from one that is cut every few seconds to one that isn't shall take seconds too.
      strikes[transport] = [];
      down_at = now;
      base = below;
    }
  }

  /** The network is gone, or another one: what stood in the way of a better transport may be gone too. */
  function network(gone: boolean): void {
    offline = gone;
    for (const attempt of attempts) if (attempt !== active) close(attempt);
    if (gone) return;
    rounds = base = 0;
    down_at = now;
    climb_step = limits.climb_first;
    if (active) open(0, Purpose.Renew);
    else if (wanted) open_at = now;
  }

  function close(attempt: Attempt): void {
    attempts.delete(attempt);
    if (attempt === active) active = undefined;
    orders.close(attempt);
  }

  function climbLater(retry_after = 0): void {
    climb_at = now + Math.max(retry_after, spread(climb_step));
    climb_step = Math.min(limits.climb_max, climb_step * 2);
  }

  /** Up to a quarter later: many clients may have heard the same time to come back, or have begun together. */
  function spread(ms: number): number {
    return ms * (1 + random() / 4);
  }

  function wait(): number {
    return backoff(now - down_at, random);
  }

  /** Whether something is open beside the active attempt, or without one. */
  function beside(): boolean {
    return attempts.size > (active ? 1 : 0);
  }

  function extend(attempt: Attempt): void {
    attempt.deadline = now + patience(attempt);
  }

  function patience({ transport, phase }: Attempt): number {
    // Between polls nothing is heard, so only connections are given up for their silence.
    return [limits.opening, limits.first_line, transports[transport]!.endsWith("poll") ? Infinity : limits.silence][phase]!;
  }

  /** Four times at most: a fifth would come after any silence that a connection or a long-poll can have. */
  function auditAt(attempt: Attempt): number {
    const { transport, heard, line_at, audit_after } = attempt;
    const audited = attempt === active && heard && transports[transport] !== "poll";
    return audited ? line_at + audit_after : Infinity;
  }
}
