//! [`Access`]: the configuration, the keys and the revocations together, as one value that is asked.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tailwire_model::{
    Credential, Expiry, Filter, Forbidden, Grants, Identity, Principal, Term, Timestamp, Topic,
};

use crate::{
    change::{AccessRecord, Change, RecordsFull},
    config::{AccessConfig, Source},
    digest::sha256,
    error::AccessError,
    hook::{Hook, HookAnswer},
    keys::{AccessKeyRecord, Key, KeyError, Keys},
    refused::Refused,
    revocations::{Revocation, Revocations},
    rules::AccessRule,
    settings::AccessSettings,
    tickets::{TicketError, Tickets},
    token::{TokenError, cache::TokenCache, is_name, jwks::JwksError, verifying::KeyFault},
};

/// Decides who makes a request and what they may. One of it serves all threads; a changed configuration makes another by
/// [`Access::reload`].
pub struct Access {
    pub(crate) settings: AccessSettings,
    /// Sums of grants that were made by other rules are not ours.
    version: u64,
    anonymous: Arc<Grants>,
    nothing: Arc<Grants>,
    tokens: TokenCache,
    /// Counts the times that verified tokens were forgotten.
    forgotten: AtomicU64,
    records: Arc<Records>,
}

/// State that outlives a change of the configuration.
#[derive(Default)]
struct Records {
    keys: Keys,
    revocations: Revocations,
    tickets: Tickets,
}

/// A principal may go on no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The credential's time is over.
    Expired,
    /// The credential was revoked, or its grants were changed.
    Revoked,
}

impl Access {
    /// Checks a configuration. `read` gives what a [`Source`] holds, or why not.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn new(
        config: &AccessConfig,
        read: &mut dyn FnMut(&Source) -> Result<Vec<u8>, String>,
    ) -> Result<Self, AccessError> {
        Ok(Self::with(AccessSettings::new(config, read)?, Arc::default()))
    }

    /// The same keys, revocations and tickets under another configuration. Tokens are verified again; principals of before
    /// keep what they have open, and get what the new rules say for what they open next.
    ///
    /// # Errors
    /// As for [`Access::new`]; then the earlier one goes on.
    pub fn reload(
        &self,
        config: &AccessConfig,
        read: &mut dyn FnMut(&Source) -> Result<Vec<u8>, String>,
    ) -> Result<Self, AccessError> {
        let settings = AccessSettings::new(config, read)?;
        for issuer in &settings.tokens.issuers {
            let mut earlier = self.settings.tokens.issuers.iter();
            if let Some(earlier) = earlier.find(|earlier| earlier.name == issuer.name) {
                issuer.inherit(earlier);
            }
        }
        Ok(Self::with(settings, Arc::clone(&self.records)))
    }

    fn with(settings: AccessSettings, records: Arc<Records>) -> Self {
        static VERSIONS: AtomicU64 = AtomicU64::new(0);
        let anonymous = sum_of(&settings.rules, &Principal::ANONYMOUS);
        let version = VERSIONS.fetch_add(1, Ordering::Relaxed);
        let (tokens, forgotten) = (TokenCache::new(), AtomicU64::new(0));
        let (anonymous, nothing) = (Arc::new(anonymous), Arc::default());
        Self { settings, version, anonymous, nothing, tokens, forgotten, records }
    }

    /// The principal of what stands behind `Bearer`, in the cookie, or in a line `authenticate`: a token or an API key.
    ///
    /// # Errors
    /// [`Refused`], with the check that failed.
    pub fn bearer(&self, credential: &str, now: Timestamp) -> Result<Principal, Refused> {
        if Key::is_meant(credential) {
            return Ok(self.key(credential, now)?);
        }
        Ok(self.token(credential, now)?)
    }

    fn key(&self, text: &str, now: Timestamp) -> Result<Principal, KeyError> {
        let principal = self.records.keys.authenticate(text, now)?;
        if principal.sum(self.version).is_some() {
            return Ok(principal);
        }
        let principal = self.summed(principal);
        if let Identity::Key { id, .. } = principal.identity() {
            self.records.keys.remember(id, &principal);
        }
        Ok(principal)
    }

    fn token(&self, token: &str, now: Timestamp) -> Result<Principal, TokenError> {
        // Too long to be one: not worth a digest.
        if token.len() > tailwire_model::limits::TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong(token.len()));
        }
        let digest = sha256(token.as_bytes());
        if let Some(known) = self.tokens.get(&digest) {
            if !known.is_expired(now) {
                return self.unrevoked(known);
            }
            self.tokens.remove(&digest);
        }
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let credential = self.settings.tokens.verify(token, now)?;
        let principal = self.unrevoked(self.summed(Principal::new(credential)))?;
        self.tokens.put(digest, principal.clone());
        // A key that was taken away meanwhile took with it all that it had verified, but for this one.
        if self.forgotten.load(Ordering::Acquire) != forgotten {
            self.tokens.remove(&digest);
        }
        Ok(principal)
    }

    fn unrevoked(&self, principal: Principal) -> Result<Principal, TokenError> {
        if self.records.revocations.concern(&principal) { Err(TokenError::Revoked) } else { Ok(principal) }
    }

    fn summed(&self, principal: Principal) -> Principal {
        let sum = Arc::new(sum_of(&self.settings.rules, &principal));
        principal.with_sum(self.version, sum)
    }

    /// The principal that a request by this peer names in the trusted header. Ask [`Access::header_of`] for it first.
    ///
    /// # Errors
    /// [`Refused::Name`].
    pub fn trusted_header(&self, value: &str) -> Result<Principal, Refused> {
        self.named(value, |subject| Identity::Header { subject })
    }

    /// The header that names the user, if this peer is believed.
    pub fn header_of(&self, peer: IpAddr) -> Option<&str> {
        let header = self.settings.trusted_header.as_ref()?;
        header.from.iter().any(|network| network.contains(peer)).then_some(&*header.name)
    }

    /// The principal of a verified client certificate.
    ///
    /// # Errors
    /// [`Refused::Name`].
    pub fn certificate(&self, subject: &str) -> Result<Principal, Refused> {
        self.named(subject, |subject| Identity::Certificate { subject })
    }

    fn named(&self, name: &str, identity: fn(Box<str>) -> Identity) -> Result<Principal, Refused> {
        if !is_name(name) {
            return Err(Refused::Name);
        }
        let credential = Credential {
            identity: identity(name.into()),
            expiry: None,
            claims: vec![("sub".into(), name.into())],
            grants: Grants::NONE,
        };
        Ok(self.summed(Principal::new(credential)))
    }

    /// Makes a ticket for a principal, of random bytes of the operating system.
    ///
    /// # Errors
    /// [`TicketError::TooMany`].
    pub fn issue_ticket(
        &self,
        principal: &Principal,
        random: &[u8; 32],
        now: Timestamp,
    ) -> Result<String, TicketError> {
        self.records.tickets.issue(principal, random, now)
    }

    /// The principal of a ticket, which is used up by this.
    ///
    /// # Errors
    /// [`Refused`]: also where the principal's own credential ended meanwhile.
    pub fn redeem_ticket(&self, ticket: &str, now: Timestamp) -> Result<Principal, Refused> {
        let principal = self.records.tickets.redeem(ticket, now)?;
        self.check(&principal, now).map_err(|_| TicketError::Unknown)?;
        Ok(principal)
    }

    /// The grants of a principal: the sum of the rules for it and of what its credential grants. Nothing, where the
    /// credential does not hold any more for another reason than its time: so whatever is asked on an open connection, a
    /// revocation has its effect at once.
    pub fn grants(&self, principal: &Principal) -> Arc<Grants> {
        if principal.is_anonymous() {
            return Arc::clone(&self.anonymous);
        }
        if !self.holds(principal) {
            return Arc::clone(&self.nothing);
        }
        match principal.sum(self.version) {
            Some(sum) => Arc::clone(sum),
            None => Arc::new(sum_of(&self.settings.rules, principal)),
        }
    }

    /// Whether a principal's credential is still one that counts: neither revoked, nor of a kind or an issuer that is not
    /// configured any more.
    pub fn holds(&self, principal: &Principal) -> bool {
        match principal.identity() {
            Identity::Token(token) => {
                let mut issuers = self.settings.tokens.issuers.iter();
                issuers.any(|issuer| issuer.name == token.issuer)
                    && !self.records.revocations.concern(principal)
            }
            Identity::Key { id, revision } => self.records.keys.still_holds(id, *revision),
            Identity::Header { .. } => self.settings.trusted_header.is_some(),
            Identity::Hook { .. } => self.settings.hook.is_some(),
            Identity::Certificate { .. } | Identity::Anonymous => true,
        }
    }

    /// The topics that a principal may find in the list of topics: those that it may read.
    pub fn permit_list(&self, principal: &Principal) -> Filter {
        self.grants(principal).readable()
    }

    /// The part of a filter that may be read. See [`Grants::permit_subscribe`].
    ///
    /// # Errors
    /// [`Forbidden`]: a named topic that is not granted, or nothing left of the patterns.
    pub fn permit_subscribe(&self, principal: &Principal, filter: Filter) -> Result<Filter, Forbidden> {
        self.grants(principal).permit_subscribe(filter)
    }

    /// Whether a message may be added to a topic.
    ///
    /// # Errors
    /// [`Forbidden`], if not.
    pub fn permit_publish(&self, principal: &Principal, topic: &Topic) -> Result<(), Forbidden> {
        self.grants(principal).permit_publish(topic)
    }

    /// Whether messages may be removed from a topic, or options of a topic or pattern be seen and set.
    ///
    /// # Errors
    /// [`Forbidden`], if not.
    pub fn permit_manage(&self, principal: &Principal, term: &Term) -> Result<(), Forbidden> {
        self.grants(principal).permit_manage(term)
    }

    /// The part of a filter whose listeners may be seen. See [`Grants::permit_presence`].
    ///
    /// # Errors
    /// As for [`Access::permit_subscribe`].
    pub fn permit_presence(&self, principal: &Principal, filter: Filter) -> Result<Filter, Forbidden> {
        self.grants(principal).permit_presence(filter)
    }

    /// Whether a principal that has something open may go on.
    ///
    /// # Errors
    /// [`Ended`], which says why not.
    pub fn check(&self, principal: &Principal, now: Timestamp) -> Result<(), Ended> {
        if principal.is_expired(now) {
            return Err(Ended::Expired);
        }
        if self.holds(principal) { Ok(()) } else { Err(Ended::Revoked) }
    }

    /// Takes a record of the log, in the order of the log.
    ///
    /// # Errors
    /// [`RecordsFull`]: ask [`Access::has_room`] before a record is published.
    pub fn apply(&self, record: AccessRecord, now: Timestamp) -> Result<Change, RecordsFull> {
        let Records { keys, revocations, .. } = &*self.records;
        match record {
            AccessRecord::Key(record) => {
                let id = record.id.clone();
                if keys.put(record) { Ok(Change::Key(id)) } else { Err(RecordsFull) }
            }
            AccessRecord::KeyRemoved(id) => {
                keys.remove(&id);
                Ok(Change::Key(id))
            }
            AccessRecord::Revocation(revocation) => {
                let change = Change::Tokens(revocation.clone());
                if revocations.put(revocation, now) { Ok(change) } else { Err(RecordsFull) }
            }
        }
    }

    /// Whether there is room for another key and another revocation.
    pub fn has_room(&self, now: Timestamp) -> bool {
        self.records.keys.has_room() && self.records.revocations.has_room(now)
    }

    /// All keys, by id, for people who manage them.
    pub fn key_records(&self) -> Vec<AccessKeyRecord> {
        self.records.keys.list()
    }

    /// The record of one key.
    pub fn key_record(&self, id: &str) -> Option<AccessKeyRecord> {
        self.records.keys.record(id)
    }

    /// Revocations that still matter, in no order.
    pub fn revocations(&self) -> Vec<Revocation> {
        self.records.revocations.list()
    }

    /// The names of all issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.settings.tokens.issuers.iter().map(|issuer| &*issuer.name)
    }

    /// The issuers whose keys are fetched, each with where from.
    pub fn jwks_sources(&self) -> impl Iterator<Item = (&str, &str)> {
        let issuers = self.settings.tokens.issuers.iter();
        issuers.filter_map(|issuer| Some((&*issuer.name, issuer.jwks.as_deref()?)))
    }

    /// Takes a fetched document of an issuer's keys in the place of the one before. Gives those keys that are not used,
    /// each with the reason. What a key verified that is gone holds no more.
    ///
    /// # Errors
    /// [`JwksError`]; then the keys before stay.
    pub fn set_jwks(&self, issuer: &str, document: &[u8]) -> Result<Vec<(String, KeyFault)>, JwksError> {
        let mut sources = self.settings.tokens.issuers.iter().filter(|own| own.jwks.is_some());
        let own = sources.find(|own| &*own.name == issuer);
        let own = own.ok_or_else(|| JwksError::UnknownIssuer(issuer.to_owned()))?;
        let (skipped, is_key_gone) = own.set_jwks(document)?;
        if is_key_gone {
            self.forgotten.fetch_add(1, Ordering::AcqRel);
            self.tokens.clear();
        }
        Ok(skipped)
    }

    /// The cookie that carries a token, if one does.
    pub fn cookie(&self) -> Option<&str> {
        self.settings.cookie.as_deref()
    }

    /// The application that is asked, if one is.
    pub fn hook(&self) -> Option<&Hook> {
        self.settings.hook.as_ref()
    }

    /// How many verified tokens are remembered.
    pub fn tokens_cached(&self) -> usize {
        self.tokens.len()
    }

    /// The principal with what the hook's answer grants beside, until it is asked again. One without a credential gets
    /// the name that the application gave; without that, a name made of `asked`, the headers that it was asked with, so
    /// that two users never share a scope.
    pub fn with_hook(
        &self,
        principal: &Principal,
        asked: &[u8],
        answer: HookAnswer,
        until: Option<Timestamp>,
    ) -> Principal {
        let until = until.map(|at| Expiry { at, leeway_ms: 0 });
        let credential = match principal.credential() {
            Some(own) => Credential {
                expiry: [own.expiry, until].into_iter().flatten().min_by_key(|end| end.refused_from()),
                grants: Grants::sum([&own.grants, &answer.grants]),
                ..own.clone()
            },
            None => {
                let claims = answer.subject.iter().map(|name| ("sub".into(), name.clone())).collect();
                // No name that an application gives has a control character in it.
                let subject = answer.subject.unwrap_or_else(|| {
                    format!("\n{}", data_encoding::HEXLOWER.encode(&sha256(asked))).into()
                });
                let identity = Identity::Hook { subject };
                Credential { identity, expiry: until, claims, grants: answer.grants }
            }
        };
        self.summed(Principal::new(credential))
    }
}

/// All that rules and a principal's credential grant to it.
fn sum_of(rules: &[AccessRule], principal: &Principal) -> Grants {
    let of_rules = rules.iter().flat_map(|rule| rule.grants(principal));
    let own = principal.own_grants().all().map(|(action, term)| (action, term.clone()));
    Grants::new(of_rules.chain(own))
}
