//! Where do packets leave? What the system's one table of routes says.
//!
//! Windows sends from an address by the card that it is on, and by no other (the
//! strong host model): what a better route leads elsewhere must not get a source
//! on the pool's card.

use super::adapters::{self, Card};
use super::{Addresses, ListError, table};
use crate::address::Leading;
use crate::address::leading::{self, Route};
use ipnet::IpNet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ptr;
use windows_sys::Win32::NetworkManagement::IpHelper::{
    FreeMibTable, GetIpForwardTable2, MIB_IPFORWARD_ROW2, MIB_IPFORWARD_TABLE2,
};
use windows_sys::Win32::Networking::WinSock::AF_UNSPEC;

/// A row of the system's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    to: IpNet,
    interface: u32,
    /// With its interface's, which is known by [`Standing::of`] only.
    metric: u32,
    /// It leads to this machine itself.
    loopback: bool,
}

/// All that says where packets leave.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    rows: Vec<Row>,
    broadcasts: Vec<Ipv4Addr>,
}

impl Standing {
    fn read() -> io::Result<Self> {
        Ok(Self::of(rows()?, &adapters::list()?))
    }

    /// In an order that only a change changes.
    fn of(mut rows: Vec<Row>, cards: &[Card]) -> Self {
        for row in &mut rows {
            row.metric = row.metric.saturating_add(dearer(row, cards));
        }
        rows.sort_unstable_by_key(|row| (row.to, row.interface, row.metric, row.loopback));
        let mut broadcasts: Vec<_> =
            cards.iter().flat_map(|card| card.adapter.broadcasts()).collect();
        broadcasts.sort_unstable();
        Self { rows, broadcasts }
    }

    fn leading(&self, interface: u32) -> Option<Vec<Leading>> {
        let routes = self.rows.iter().map(|row| route(row, interface));
        let nobodys = self.broadcasts.iter().copied().map(nobodys);
        leading::leading(&routes.chain(nobodys).collect::<Vec<_>>())
    }
}

/// Hears of changes of the routes and of what their cards cost: they are compared
/// with what they were.
#[derive(Debug)]
pub struct RouteNews {
    /// As it was read last; `None`: not at all.
    seen: Option<Standing>,
}

impl RouteNews {
    /// # Errors
    /// None: on Linux the kernel gives a socket.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { seen: None })
    }

    /// Has something changed since this was asked last?
    pub fn any(&mut self) -> bool {
        self.differs(Standing::read().ok())
    }

    fn differs(&mut self, now: Option<Standing>) -> bool {
        let any = now.is_none() || now != self.seen;
        self.seen = now;
        any
    }

    /// What was to follow from the last answer has failed.
    pub fn ask_again(&mut self) {
        self.seen = None;
    }
}

impl Addresses {
    /// Where packets go over `interface`, and where not. `None`: there are too many
    /// routes.
    ///
    /// # Errors
    /// The system does not list them.
    pub fn leading(
        &mut self,
        interface: u32,
        _pool: &[(IpAddr, IpAddr)],
    ) -> Result<Option<Vec<Leading>>, ListError> {
        let standing = Standing::read().map_err(|source| ListError { what: "routes", source })?;
        Ok(standing.leading(interface))
    }
}

fn route(row: &Row, interface: u32) -> Route {
    let over = row.interface == interface && !row.loopback;
    Route { metric: row.metric, over, ..blank(row.to) }
}

/// What a route costs for its card.
fn dearer(row: &Row, cards: &[Card]) -> u32 {
    let card = cards.iter().find(|card| card.adapter.index == row.interface);
    card.map_or(0, |card| match row.to {
        IpNet::V4(_) => card.ipv4_metric,
        IpNet::V6(_) => card.ipv6_metric,
    })
}

/// What is sent to a directed broadcast address leaves as ever.
fn nobodys(broadcast: Ipv4Addr) -> Route {
    blank(IpNet::from(IpAddr::V4(broadcast)))
}

/// The first choice of the one table, and not over the card.
fn blank(to: IpNet) -> Route {
    Route { table: 0, to, metric: 0, over: false, weak: false, special: false }
}

/// Both families, each with its own metric.
#[expect(unsafe_code, reason = "iphlpapi allocates the table")]
fn rows() -> io::Result<Vec<Row>> {
    let mut list: *mut MIB_IPFORWARD_TABLE2 = ptr::null_mut();
    // SAFETY: the call writes the pointer.
    table::done(unsafe { GetIpForwardTable2(AF_UNSPEC, &raw mut list) })?;
    // SAFETY: the table is there, with as many rows as it says, and is freed once,
    // after the last use.
    let rows: Vec<Row> = unsafe {
        let first = (&raw const (*list).Table).cast::<MIB_IPFORWARD_ROW2>();
        let all = std::slice::from_raw_parts(first, (*list).NumEntries as usize);
        let rows = all.iter().filter_map(row).collect();
        FreeMibTable(list.cast());
        rows
    };
    Ok(rows)
}

/// `None`: neither IPv4 nor IPv6.
fn row(row: &MIB_IPFORWARD_ROW2) -> Option<Row> {
    let to = table::ip(&row.DestinationPrefix.Prefix)?;
    Some(Row {
        to: IpNet::new(to, row.DestinationPrefix.PrefixLength).ok()?.trunc(),
        interface: row.InterfaceIndex,
        metric: row.Metric,
        loopback: row.Loopback,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Adapter;

    const POOL: u32 = 12;
    const OTHER: u32 = 13;

    fn card(index: u32, net: &str, ipv4_metric: u32) -> Card {
        let addresses = vec![net.parse().unwrap()];
        let adapter = Adapter { index, name: index.to_string(), addresses, mac: None };
        Card { adapter, ipv4_metric, ipv6_metric: 0 }
    }

    fn row(to: &str, interface: u32, metric: u32, loopback: bool) -> Row {
        Row { to: to.parse().unwrap(), interface, metric, loopback }
    }

    /// As the hook's table answers.
    fn asked(rows: &[Row], cards: &[Card], to: &str) -> bool {
        let standing = Standing::of(rows.to_vec(), cards);
        let (leading, to): (_, IpAddr) = (standing.leading(POOL).unwrap(), to.parse().unwrap());
        let holding = leading.iter().filter(|it| it.net.contains(&to));
        holding.max_by_key(|it| it.net.prefix_len()).is_some_and(|it| it.over)
    }

    #[test]
    fn an_ordinary_host() {
        let cards = [card(POOL, "10.77.0.1/16", 25), card(OTHER, "10.88.0.1/16", 5)];
        let rows = [
            row("0.0.0.0/0", POOL, 0, false),
            row("10.77.0.0/16", POOL, 256, false),
            row("10.77.0.1/32", POOL, 256, true),
            row("10.77.255.255/32", POOL, 256, false),
            row("10.88.0.0/16", OTHER, 256, false),
        ];
        for (to, over) in [
            ("8.8.8.8", true),
            ("10.77.0.2", true),
            ("10.88.0.2", false),
            ("10.77.0.1", false),
            ("10.77.255.255", false),
            ("255.255.255.255", false),
            ("127.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(asked(&rows, &cards, to), over, "{to}");
        }
    }

    /// The sum counts, not the route's own part of it.
    #[test]
    fn a_cheaper_card_takes_the_default_route() {
        let rows = [row("0.0.0.0/0", POOL, 10, false), row("0.0.0.0/0", OTHER, 20, false)];
        let cards =
            |pool, other| [card(POOL, "10.77.0.1/16", pool), card(OTHER, "10.88.0.1/16", other)];
        assert!(asked(&rows, &cards(5, 5), "8.8.8.8"));
        assert!(!asked(&rows, &cards(25, 5), "8.8.8.8"));
        assert!(!asked(&rows, &cards(15, 5), "8.8.8.8"), "neither is better");
    }

    /// The routes are as they were: only a card has become dearer, or has got another
    /// network's broadcast address.
    #[test]
    fn a_change_of_a_card_is_news() {
        let rows = [row("0.0.0.0/0", POOL, 10, false), row("0.0.0.0/0", OTHER, 20, false)];
        let with = |pool, metric| {
            let cards = [card(POOL, pool, metric), card(OTHER, "10.88.0.1/16", 5)];
            Some(Standing::of(rows.to_vec(), &cards))
        };
        let mut news = RouteNews::listen().unwrap();
        let mut is_news = |pool, metric| news.differs(with(pool, metric));
        assert!(is_news("10.77.0.1/16", 5));
        assert!(!is_news("10.77.0.1/16", 5));
        assert!(is_news("10.77.0.1/16", 25));
        assert!(!is_news("10.77.0.1/16", 25));
        assert!(is_news("10.77.0.1/24", 25));
    }

    #[test]
    fn this_machines_routes_are_read_and_do_not_change() {
        let mut news = RouteNews::listen().unwrap();
        assert!(news.any(), "nothing was known yet");
        assert!(!news.any());
        news.ask_again();
        assert!(news.any());
        let nowhere = Addresses::open().unwrap().leading(u32::MAX, &[]).unwrap().unwrap();
        assert!(nowhere.iter().all(|it| !it.over), "no such card: {nowhere:?}");
    }
}
