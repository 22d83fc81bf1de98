//! Credentials that access control gives out and keeps: cookies, tickets, keys, revocations. How they are made is not
//! known here.

use futures_util::future::BoxFuture;
use tailwire_model::Principal;
use tailwire_wire::Problem;

/// The administration of credentials. Who may use it is asked before: tickets are for each identified principal, keys and
/// revocations for those who may manage `$access/**`.
pub trait Credentials: Send + Sync + 'static {
    /// The name of the cookie that carries a token, if one does.
    fn cookie(&self) -> Option<String>;

    /// What a client can find out of who gives credentials (RFC 9728), as JSON, for the resource whose URL has that path.
    fn resource_metadata(&self, path: &str) -> Option<Vec<u8>>;

    /// A ticket for a principal, as JSON.
    ///
    /// # Errors
    /// `rate-limited`, where it has too many.
    fn issue_ticket(&self, principal: &Principal) -> Result<Vec<u8>, Problem>;

    /// All keys without their secrets, as JSON.
    fn keys(&self) -> Vec<u8>;

    /// Makes a key as JSON asks for, and tells it, this once.
    fn create_key(&self, body: &[u8]) -> Written;

    /// Revokes a key. It counts no more when this is answered.
    fn revoke_key(&self, id: &str) -> Written;

    /// All revocations that still matter, as JSON.
    fn revocations(&self) -> Vec<u8>;

    /// Revokes tokens as JSON says. They count no more when this is answered.
    fn revoke(&self, body: &[u8]) -> Written;
}

/// The result of a change, as JSON, once it is durable and in force.
pub type Written = BoxFuture<'static, Result<Vec<u8>, Problem>>;
