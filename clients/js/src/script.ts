/** For pages that load a plain script: everything of the package as `tailwire`. */
import { AccessError, ClosedError, GapError, NetworkError, ProblemError, TailwireError, connect } from "./index.js";

(globalThis as { tailwire?: object }).tailwire = { AccessError, ClosedError, GapError, NetworkError, ProblemError, TailwireError, connect };
