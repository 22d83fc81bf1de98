import { HttpLink } from "./link.js";
export declare class StreamLink extends HttpLink {
    protected run(): Promise<void>;
}
