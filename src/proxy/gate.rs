//! What clients may have: connections, commands in a time, memory.
//!
//! The counts are of this process, over all its routes. Limits are read anew at each
//! use, so that changed ones hold from then on; what was granted stays granted.

mod flood;
mod memory;
mod pass;
mod rates;
mod seats;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use self::flood::Flood;
use self::memory::Memory;
pub(super) use self::memory::{FREE, Held};
pub(super) use self::rates::Turn;
use self::rates::{Own, Rates};
use self::seats::{Seat, Seats};
use super::LimitsCell;
use super::frames::Announced;
use crate::access::{Access, Principal};
use crate::observe::metrics::{Flow, Open};
use crate::refusal::{Refusal, RefusalKind};

/// What all clients share.
pub(super) struct Gate {
    limits: LimitsCell,
    all: Arc<Seats<()>>,
    addresses: Arc<Seats<IpAddr>>,
    principals: Arc<Seats<Arc<str>>>,
    rates: Rates,
    memory: Memory,
    flood: Arc<Flood>,
    flow: Arc<Flow>,
}

/// One of the connections that there may be; makes room when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _all: Seat<()>,
    _address: Option<Seat<IpAddr>>,
    _open: Open,
}

/// Why a connection is closed before anything was said over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TurnedAway {
    /// Its address is in no network of the list.
    Address,
    /// There are as many connections as there may be.
    Connections,
    /// There are as many from its address as there may be.
    ConnectionsOfAddress,
}

impl TurnedAway {
    /// All of them.
    const ALL: [Self; 3] = [Self::Address, Self::Connections, Self::ConnectionsOfAddress];

    /// What of the configuration says so.
    pub(super) fn limit(self) -> &'static str {
        match self {
            Self::Address => "access.allow",
            Self::Connections => "limits.connections",
            Self::ConnectionsOfAddress => "limits.connections_per_ip",
        }
    }
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not from a network that may connect (access.allow)",
            Self::Connections => "too many connections (limits.connections)",
            Self::ConnectionsOfAddress => {
                "too many connections from one address (limits.connections_per_ip)"
            }
        })
    }
}

impl Gate {
    /// A gate that nobody has come through yet.
    pub(super) fn new(limits: LimitsCell) -> Arc<Self> {
        Arc::new(Self {
            limits,
            all: Arc::default(),
            addresses: Arc::default(),
            principals: Arc::default(),
            rates: Rates::default(),
            memory: Memory::default(),
            flood: Arc::default(),
            flow: Arc::default(),
        })
    }

    /// What it counts.
    pub(super) fn flow(&self) -> Arc<Flow> {
        Arc::clone(&self.flow)
    }

    /// Room for a client from `address`; none for a Unix socket, which has no address to
    /// count by and is guarded by the rights of its file.
    pub(super) fn admit(
        &self,
        address: Option<IpAddr>,
        access: &Access,
    ) -> Result<Place, TurnedAway> {
        if address.is_some_and(|address| !access.admits(address)) {
            return Err(TurnedAway::Address);
        }
        let limits = self.limits.load();
        let of_address = address
            .map(|address| {
                let key = address.to_canonical();
                (self.addresses.take(key, limits.connections_per_ip))
                    .ok_or(TurnedAway::ConnectionsOfAddress)
            })
            .transpose()?;
        let all = self.all.take((), Some(limits.connections));
        Ok(Place {
            _all: all.ok_or(TurnedAway::Connections)?,
            _address: of_address,
            _open: self.flow.opened(),
        })
    }

    /// Logs that a client was turned away; floods of them in one line a second.
    pub(super) fn turned_away(&self, client: impl FnOnce() -> String, why: TurnedAway) {
        self.flow.turned_away(why.limit());
        self.flood.tell(client, why);
    }

    /// Waits for room in memory for a message, of which `copies` more are made.
    ///
    /// Nothing hangs on it: who waits here holds no room, and who holds some waits for nothing
    /// that depends on another one's room. A request gives its room back when it is
    /// sent, before its reply is waited for; a client that does not send on or does not
    /// read is cut off.
    pub(super) async fn room(
        &self,
        address: Option<IpAddr>,
        message: Announced,
        copies: usize,
    ) -> Held {
        let longest = message.length.max(message.inflated);
        if longest <= FREE {
            return Held::default();
        }
        let copies = longest.saturating_mul(copies);
        let bytes = (message.length.saturating_add(message.inflated)).saturating_add(copies);
        let held = match self.limits.load().memory_bytes {
            Some(size) => self.memory.reserve(size, bytes, address).await,
            None => Held::default(),
        };
        held.counted(self.flow.takes(bytes))
    }
}

/// What one client's connection has of the gate.
pub(super) struct Guest {
    gate: Arc<Gate>,
    /// Whom the rest is for.
    principal: Option<Principal>,
    name: Arc<str>,
    /// None: who is at the other end is not known, or has too many connections.
    seat: Option<Seat<Arc<str>>>,
    surplus: bool,
    own: Own,
}

impl Guest {
    /// A connection of which nobody knows whose it is.
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self {
            gate,
            principal: None,
            name: "".into(),
            seat: None,
            surplus: false,
            own: Own::default(),
        }
    }

    /// The gate.
    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Whether this connection of `principal` is one too many.
    pub(super) fn seated(&mut self, principal: &Principal) -> Result<(), Refusal> {
        if self.principal.as_ref() != Some(principal) {
            self.become_of(principal);
        }
        if !self.surplus {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalKind::TooManyConnections,
            format_args!(
                "{} has too many connections (connections_per_principal); close some, or use a smaller pool (maxPoolSize)",
                self.name
            ),
        ))
    }

    fn become_of(&mut self, principal: &Principal) {
        // The old seat first: it may be of the same name.
        self.seat = None;
        self.name = principal.to_string().into();
        self.surplus = false;
        // An address is no one in particular, and has a limit of its own.
        if principal.user.is_some() || principal.certificate.is_some() {
            let most = self.gate.limits.load().connections_per_principal;
            self.seat = self.gate.principals.take(Arc::clone(&self.name), most);
            self.surplus = self.seat.is_none();
        }
        self.principal = Some(principal.clone());
    }

    /// Whether commands have to wait for their turn at all.
    pub(super) fn is_rated(&self) -> bool {
        self.gate.limits.load().commands.is_some()
    }

    /// When the next command may go on. Those that are `essential` are counted apart: without
    /// them no connection can begin or end, or be found alive.
    pub(super) fn turn(&mut self, essential: bool) -> Turn {
        let Some(rate) = self.gate.limits.load().commands else {
            return Turn::Now;
        };
        if essential {
            self.own.turn(rate)
        } else {
            self.gate.rates.turn(rate, &self.name)
        }
    }

    /// The answer to a command that came too early.
    pub(super) fn too_many_commands(&self) -> Refusal {
        Refusal::new(
            RefusalKind::TooManyCommands,
            format_args!(
                "{} sends too many commands (commands_per_second); wait before you try again",
                self.name
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use arc_swap::ArcSwap;

    use super::*;
    use crate::config::{AccessConfig, Limits};

    fn gate(limits: Limits) -> (Arc<Gate>, LimitsCell) {
        let cell: LimitsCell = Arc::new(ArcSwap::from_pointee(limits));
        (Gate::new(Arc::clone(&cell)), cell)
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    fn user(name: &str) -> Principal {
        Principal {
            address: address(1),
            user: Some(name.to_owned()),
            ..Principal::default()
        }
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address_and_make_room_when_they_end() {
        let (gate, cell) = gate(Limits {
            connections: 3,
            connections_per_ip: Some(2),
            ..Limits::default()
        });
        let open = Access::default();
        let admit = |from| gate.admit(from, &open);
        let first = admit(address(1)).unwrap();
        let _second = admit(address(1)).unwrap();
        assert_eq!(
            admit(address(1)).unwrap_err(),
            TurnedAway::ConnectionsOfAddress
        );
        // The same address, as a socket for both protocols tells it.
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(
            admit(Some(mapped)).unwrap_err(),
            TurnedAway::ConnectionsOfAddress
        );
        let _third = admit(None).unwrap();
        assert_eq!(admit(address(2)).unwrap_err(), TurnedAway::Connections);
        drop(first);
        let _fourth = admit(address(2)).unwrap();
        assert_eq!(admit(None).unwrap_err(), TurnedAway::Connections);
        cell.store(Arc::new(Limits::default()));
        let _fifth = admit(address(1)).unwrap();
        // Nobody who was turned away is still counted.
        assert_eq!(gate.all.count(&()), 4);
        assert_eq!(gate.addresses.count(&address(1).unwrap()), 2);
    }

    #[tokio::test]
    async fn open_connections_and_long_messages_are_counted_with_and_without_limits() {
        for memory_bytes in [None, Some(100_000_000)] {
            let (gate, _) = gate(Limits {
                connections: 1,
                memory_bytes,
                ..Limits::default()
            });
            let flow = gate.flow();
            let place = gate.admit(address(1), &Access::default()).unwrap();
            let refused = gate.admit(address(1), &Access::default()).unwrap_err();
            gate.turned_away(String::new, refused);
            let message = Announced {
                length: 1_000_000,
                inflated: 3_000_000,
            };
            let held = gate.room(None, message, 2).await;
            let counts = || (flow.connections_open(), flow.bytes());
            assert_eq!(counts(), (1, 10_000_000));
            assert_eq!(flow.connections_accepted(), 1);
            assert!(flow.all_turned_away().contains(&("limits.connections", 1)));
            drop((place, held));
            assert_eq!(counts(), (0, 0));
        }
    }

    #[test]
    fn only_networks_of_the_list_may_connect_and_unix_sockets_have_none() {
        let (gate, _) = gate(Limits::default());
        let access = Access::compile(&AccessConfig {
            allow: vec!["10.0.0.0/24".parse().unwrap()],
            ..AccessConfig::default()
        })
        .unwrap();
        assert!(gate.admit(address(7), &access).is_ok());
        assert!(gate.admit(None, &access).is_ok());
        let elsewhere = Some(IpAddr::from([10, 0, 1, 7]));
        assert_eq!(
            gate.admit(elsewhere, &access).unwrap_err(),
            TurnedAway::Address
        );
        assert!(gate.admit(elsewhere, &Access::default()).is_ok());
    }

    #[test]
    fn a_principals_connections_are_counted_once_it_is_known() {
        let (gate, _) = gate(Limits {
            connections_per_principal: Some(1),
            ..Limits::default()
        });
        let mut guests = [0; 3].map(|_| Guest::new(Arc::clone(&gate)));
        let stranger = Principal {
            address: address(1),
            ..Principal::default()
        };
        for guest in &mut guests {
            guest.seated(&stranger).unwrap();
        }
        let [first, second, third] = &mut guests;
        for _ in 0..2 {
            first.seated(&user("ann@admin")).unwrap();
            second.seated(&user("bob@admin")).unwrap();
            let refusal = third.seated(&user("ann@admin")).unwrap_err();
            assert!(
                refusal
                    .message
                    .contains("ann@admin has too many connections"),
                "{refusal}"
            );
        }
        // Who logs out makes room, and who is someone else is judged anew.
        first.seated(&stranger).unwrap();
        third.seated(&stranger).unwrap();
        third.seated(&user("ann@admin")).unwrap();
        first.seated(&user("ann@admin")).unwrap_err();
        drop(guests);
        let mut next = Guest::new(gate);
        next.seated(&user("ann@admin")).unwrap();
    }

    #[tokio::test]
    async fn what_is_small_or_not_limited_takes_no_room() {
        let message = |length| Announced {
            length,
            inflated: 0,
        };
        let (open, _) = gate(Limits::default());
        assert!(open.room(None, message(48_000_000), 3).await.is_empty());
        let (bounded, _) = gate(Limits {
            memory_bytes: Some(20_000_000),
            ..Limits::default()
        });
        assert!(bounded.room(None, message(FREE), 3).await.is_empty());
        // More than there is takes all there is, and gives it back.
        for _ in 0..2 {
            assert!(!bounded.room(None, message(48_000_000), 3).await.is_empty());
        }
    }
}
