import type { Hub } from "../hub.js";
import { type Room } from "./room.js";
/** Leads, until the returned function is called. */
export declare function lead(room: Room, hub: Hub): () => void;
