//! The requests that are answered once: which resource a request is for, whether it is let through, and its answer.

pub(crate) mod access_log;
pub(crate) mod app;
pub(crate) mod client;
mod coding;
mod compress;
pub(crate) mod credentials;
pub(crate) mod document;
pub(crate) mod documents;
mod exposition;
mod feed;
pub(crate) mod guard;
mod hint;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod metrics;
pub(crate) mod options;
pub(crate) mod pages;
pub(crate) mod publish;
pub(crate) mod read;
mod reference;
pub(crate) mod reply;
pub(crate) mod resources;
pub(crate) mod room;
pub(crate) mod router;
pub(crate) mod session;
pub(crate) mod startup;
mod via;
