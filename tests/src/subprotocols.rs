//! WebSocket subprotocols that only the tests have. They prove that the table of the product takes others.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    thread,
};

use tailwire_core::{
    AllowAll, Broker, BrokerParts, Clock, Encoders, Event, Instruments, LocalOrder, ReadError, Reader,
};
use tailwire_http::{HttpSettings, Incoming, Io, Protocol, Server, Subprotocol, Takes, WebSocketOpening};
use tailwire_storage::MemoryStore;
use tailwire_wire::{ENCODERS, Format, REFERENCES};
use tokio::net::TcpListener;

/// Gives back whatever it is sent.
pub const ECHO: Subprotocol = Subprotocol {
    name: "echo",
    takes: Takes::Both,
    format: Format::Frame as usize,
    authenticates: false,
    open: |_, _| Box::new(Echo),
};

/// Gives the messages of the URL's topics, each with its number on this connection before its line: `1 {"kind":…`.
pub const COUNTED: Subprotocol = Subprotocol {
    name: "counted",
    takes: Takes::Binary,
    format: Format::Frame as usize,
    authenticates: false,
    open: |opening, io| Box::new(Counted::new(opening, io)),
};

/// Serves a broker in memory that speaks them.
///
/// # Errors
/// When the system gives no threads.
pub fn serve(listener: TcpListener) -> io::Result<(Broker, Server)> {
    let (store, instruments) = (Arc::new(MemoryStore::default()), Instruments::default());
    let clock = Clock { now: Clock::system_now, steady: Clock::system_steady, random: || 0 };
    let begun = LocalOrder::begin(store.clone(), clock, &instruments);
    let (order, committer) = begun.map_err(io::Error::other)?;
    let parts = BrokerParts {
        order: Arc::new(order),
        store,
        instruments,
        encoders: Encoders::new(&ENCODERS, &REFERENCES),
        policy: Arc::new(AllowAll),
        clock,
        shards: 1,
        read_threads: 1,
        read_thread_begins: || {},
        read_throttle_factor: 0,
        quotas: Vec::new(),
    };
    let broker = Broker::start(parts)?;
    thread::Builder::new().spawn(move || drop(committer.run()))?;
    let settings = HttpSettings { subprotocols: vec![ECHO, COUNTED], ..HttpSettings::default() };
    let server = Server::start(&broker, settings, vec![listener.into()])?;
    Ok((broker, server))
}

struct Echo;

impl Protocol for Echo {
    fn event(&mut self, event: Event, io: &mut Io) {
        if let Event::Bye(_) = event {
            io.close(1001, "");
        }
    }

    fn failed(&mut self, _: ReadError, io: &mut Io) {
        io.close(1011, "");
    }

    fn received(&mut self, message: Incoming<'_>, io: &mut Io, _: &mut Context<'_>) {
        match message {
            Incoming::Text(text) => io.send_text(text.as_bytes()),
            Incoming::Binary(data) => io.send_binary(data),
        }
    }
}

struct Counted {
    reader: Option<Reader>,
    given: u64,
}

impl Counted {
    fn new(opening: WebSocketOpening, io: &mut Io) -> Self {
        let mut reader = opening.subscription();
        reader.iter_mut().for_each(|reader| reader.follow(io.shard()));
        Self { reader, given: 0 }
    }
}

impl Protocol for Counted {
    fn event(&mut self, event: Event, io: &mut Io) {
        if let Event::Bye(_) = event {
            io.close(1001, "");
        }
    }

    fn failed(&mut self, _: ReadError, io: &mut Io) {
        io.close(1011, "");
    }

    fn poll_more(&mut self, io: &mut Io, cx: &mut Context<'_>) {
        let Some(reader) = &mut self.reader else { return };
        while !io.is_full() && !io.is_ending() {
            match reader.poll_next(cx) {
                Poll::Ready(Ok(Event::Messages(slices))) => io.send_prefixed(slices, |_, out| {
                    self.given += 1;
                    out.extend_from_slice(format!("{} ", self.given).as_bytes());
                    0
                }),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => io.close(1011, ""),
                Poll::Pending => return,
            }
        }
    }

    fn is_lendable(&self) -> bool {
        self.reader.is_none()
    }
}
