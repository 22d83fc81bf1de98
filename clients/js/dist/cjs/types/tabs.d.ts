import type { Tabs } from "./hub.js";
import { type RoomOptions } from "./tabs/room.js";
export interface TabsOptions extends RoomOptions {
    /** Only tabs of the same group share. Give one to each user where several may use one browser: the leading tab has the rights for all. */
    group?: string;
}
/** Where the browser can't do it (it takes Web Locks and BroadcastChannel), each tab has its own connection. */
export declare function tabs({ group, ...parts }?: TabsOptions): Tabs;
