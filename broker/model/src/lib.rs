//! Values and rules of the broker, all pure: nothing here does I/O, reads a clock, draws a random number or knows
//! a wire format, a storage engine or a runtime. A value is valid by construction; a rule gets time as an argument.
//!
//! Words are those of the glossary in `docs/ARCHITECTURE.md`.

pub mod admission;
pub mod bye;
pub mod cursor;
pub mod epochs;
pub mod filter;
pub mod gap;
pub mod grants;
mod intersection;
pub mod limits;
pub mod message;
pub mod network;
pub mod options;
pub mod principal;
pub mod quota;
pub mod rate;
pub mod retry;
pub mod size;
pub mod time;
pub mod topic;
pub mod tree;
pub mod varint;

pub use admission::{Admission, Condition, Fingerprint, IdempotencyKey};
pub use bye::{Bye, ByeReason};
pub use cursor::{Cursor, CursorError, Epoch, Position};
pub use epochs::{EpochStart, Epochs, Opening};
pub use filter::{Filter, FilterError, Pattern, Term};
pub use gap::{Gap, GapReason, Trim, TrimReason};
pub use grants::{Action, Forbidden, ForbiddenCause, Grants};
pub use message::{DataKind, Draft, MediaType, Message, Timestamp};
pub use network::{Network, NetworkError, client_network};
pub use options::{Bound, Durability, Keep, Options, Rule, Rules};
pub use principal::{Credential, Expiry, Identity, Principal, TokenIdentity};
pub use quota::{Quota, QuotaExceeded, QuotaKind, Usage};
pub use rate::Rate;
pub use size::SizeBound;
pub use topic::{Topic, TopicError};
pub use tree::PatternTree;
