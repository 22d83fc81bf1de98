//! The commands of `tailwire bench`: what each opens, publishes and reports.

pub(crate) mod args;
pub(crate) mod deliveries;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod publish;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod topics;
