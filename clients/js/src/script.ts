/** For pages that load a plain script: everything of the package as `tailwire`. */
import { AccessError, ClosedError, GapError, NetworkError, ProblemError, TailwireError, connect } from "./index.js";

Object.assign(globalThis, { tailwire: { AccessError, ClosedError, GapError, NetworkError, ProblemError, TailwireError, connect } });
