//! A configuration to begin with: every program of every session.

use sessionip::config::{
    Config, Divert, Ipv6WithoutLease, Isolation, Loopback, Pool, ProgramPattern, Scope,
    UnknownOwner, VirtualIp, WhenExhausted,
};
use std::time::Duration;

/// As it comes, but that nothing is excepted and no port is left alone.
pub(crate) fn config() -> Config {
    Config {
        state_dir: "/var/lib/sessionip".into(),
        control: "/run/sessionip/control.sock".into(),
        pool: Pool {
            ranges: Vec::new(),
            adapter: None,
            per_user: 8,
            sticky: true,
            quarantine: Duration::from_secs(240),
        },
        virtual_ip: VirtualIp {
            enabled: true,
            programs: vec![ProgramPattern::All],
            except: Vec::new(),
            children: false,
            when_exhausted: WhenExhausted::HostAddress,
            ipv6_without_lease: Ipv6WithoutLease::Leave,
        },
        loopback: Loopback::default(),
        hook_scope: Scope::Bind,
        hook_exclude: Vec::new(),
        divert: Divert {
            hold: Duration::from_millis(10),
            unknown_owner: UnknownOwner::Pass,
            exclude_ports: Vec::new(),
        },
        isolation: Isolation { listeners: true, loopback: true, sources: true },
        metrics: None,
    }
}
