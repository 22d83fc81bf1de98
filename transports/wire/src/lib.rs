//! Wire formats and negotiation: what goes over a transport, as pure functions of bytes and text.
//!
//! Nothing here opens a socket, reads a clock, draws a random number or knows an HTTP library: headers come in as pairs
//! of a lower-case name and a value, encodings go out into a `Vec<u8>`. What a name, a cursor or a gap is, and the
//! rules about them, stand in `tailwire-model`.

mod accept;
pub mod coding;
pub mod document;
mod draft;
pub mod encoders;
pub mod etag;
pub mod feed;
pub mod format;
pub mod framing;
mod json;
pub mod line;
mod members;
mod moment;
pub mod narrowed;
pub mod negotiate;
mod number;
mod omitted;
pub mod options;
pub mod page;
pub mod path;
pub mod problem;
pub mod publish;
pub mod query;
mod quota_policy;
pub mod representation;
pub mod request;
pub mod sse;
pub mod stored;
pub mod typo;
pub mod wanted;

pub use accept::ranges;
pub use coding::Coding;
pub use encoders::ENCODERS;
pub use format::Format;
pub use moment::Moment;
pub use negotiate::{ReadRequest, Representation, Resource};
pub use omitted::REFERENCES;
pub use problem::{Code, Problem};
pub use publish::Publish;
pub use query::QueryStart;
pub use quota_policy::QuotaPolicy;
pub use tailwire_model::time;
pub use wanted::Wanted;
