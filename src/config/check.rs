//! Is what was typed true? From [`File`] to [`Config`], every problem at once.

use super::file::{Datapath, File, OnFailure, Source};
use super::finding::{self, Finding};
use super::value::{self, Refused};
use super::{
    Config, Divert, Exclusion, Isolation, Loopback, Mapping, Pool, ProgramPattern, Scope,
    VirtualIp, file,
};
use crate::companion;
use crate::lease::Family;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More addresses than any host has sessions; tables of the pool stay small. Of
/// each IP version.
const LARGEST_POOL: u128 = 65_536;
/// A held packet is kept in memory, and its program waits.
const LONGEST_HOLD: Duration = Duration::from_secs(1);
/// A year.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(365 * 24 * 3600);
/// `sun_path` of unix(7), without its final zero.
const LONGEST_CONTROL: usize = 107;

/// The configuration that `file` describes; none where a finding is an error.
pub(super) fn config(file: &File, findings: &mut Vec<Finding>) -> Option<Config> {
    let mut check = Check { findings };
    let state_dir = check.value("state-dir", value::full_path(&file.state_dir));
    let control = check.control(&file.control);
    check.pins(state_dir.as_deref(), control.as_deref());
    let pool = check.pool(&file.pool);
    let virtual_ip = check.virtual_ip(&file.virtual_ip);
    let loopback = check.loopback(&file.loopback, file.virtual_ip.enabled);
    let hook_exclude = check.hook(&file.hook);
    let divert = check.divert(&file.divert);
    let metrics = check.metrics(&file.metrics);
    if finding::any_error(findings) {
        return None;
    }
    Some(Config {
        state_dir: state_dir?,
        control: control?,
        pool: pool?,
        virtual_ip,
        loopback,
        hook_scope: file.hook.scope,
        hook_exclude,
        divert: divert?,
        isolation: Isolation {
            listeners: file.isolation.listeners,
            loopback: file.isolation.loopback,
            sources: file.isolation.sources,
        },
        metrics,
    })
}

/// One method for each section; each reads all of it, whatever it finds.
struct Check<'f> {
    findings: &'f mut Vec<Finding>,
}

impl Check<'_> {
    fn control(&mut self, text: &str) -> Option<PathBuf> {
        let path = self.value("control", value::full_path(text))?;
        if path.file_name().is_none() {
            self.error("control", format!("{text:?} is a folder"), "name a socket in it");
        }
        if text.len() > LONGEST_CONTROL {
            let message = format!("a socket's path has at most {LONGEST_CONTROL} bytes");
            let help = "take a shorter path, such as /run/sessionip/control.sock";
            self.error("control", message, help);
        }
        Some(path)
    }

    /// The folder that the companion hook takes beside the control socket is
    /// nobody else's: what lay there would be hidden.
    fn pins(&mut self, state_dir: Option<&Path>, control: Option<&Path>) {
        let Some(pins) = control.and_then(companion::pins) else { return };
        let message = |it: &Path| {
            format!("{it:?} is where the companion hook keeps its maps, beside control")
        };
        if let Some(control) = control.filter(|it| **it == pins) {
            self.error("control", message(control), "give the socket another name");
        }
        if let Some(folder) = state_dir.filter(|it| it.starts_with(&pins)) {
            self.error("state-dir", message(folder), "take another folder");
        }
    }

    fn pool(&mut self, pool: &file::Pool) -> Option<Pool> {
        if pool.source == Source::Dhcp {
            self.not_in_this_version("pool.source", &"dhcp", "write \"static\"");
        }
        let ranges = self.ranges(&pool.ranges);
        if pool.adapter.is_empty() {
            let help = "write the network card's name, or \"auto\"";
            self.error("pool.adapter", "no network card has an empty name", help);
        }
        let per_user = usize::try_from(pool.per_user).ok().filter(|&leases| leases > 0);
        if per_user.is_none() {
            let help = "write 1 or more; programs are chosen with virtual-ip.programs";
            self.error("pool.per-user", "no user could ever hold an address", help);
        }
        let quarantine = value::duration(&pool.quarantine, LONGEST_QUARANTINE);
        let quarantine = self.value("pool.quarantine", quarantine);
        Some(Pool {
            ranges,
            adapter: (pool.adapter != "auto").then(|| pool.adapter.clone()),
            per_user: per_user?,
            sticky: pool.sticky,
            quarantine: quarantine?,
        })
    }

    fn ranges(&mut self, texts: &[String]) -> Vec<RangeInclusive<IpAddr>> {
        const KEY: &str = "pool.ranges";
        if self.is_empty(KEY, texts) {
            let message = "pool.ranges is missing or empty: there are no addresses to give";
            let help = "write ranges = [\"10.77.0.101-10.77.0.199\"] below [pool], \
                with addresses of your own";
            self.error(KEY, message, help);
        }
        let mut ranges: Vec<RangeInclusive<IpAddr>> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let finding = match value::range(text) {
                Err(refused) => Some(wrong(KEY, refused)),
                Ok(range) => {
                    let other = ranges.iter().find(|other| value::overlap(other, &range));
                    let finding = other.map(|other| {
                        let message =
                            format!("{text:?} overlaps {}-{}", other.start(), other.end());
                        Finding::error(KEY, message, "name each address once")
                    });
                    ranges.push(range);
                    finding
                }
            };
            self.findings.extend(finding.map(|finding| finding.item(index)));
        }
        for family in Family::ALL {
            let ranges = ranges.iter().filter(|range| Family::of(*range.start()) == family);
            let total = ranges.map(value::length).fold(0, u128::saturating_add);
            if total > LARGEST_POOL {
                let message =
                    format!("a pool of {total} {family} addresses; {LARGEST_POOL} is the most");
                self.error(KEY, message, too_large(family));
            }
        }
        ranges
    }

    fn virtual_ip(&mut self, section: &file::VirtualIp) -> VirtualIp {
        let programs = self.items("virtual-ip.programs", &section.programs, str::parse);
        let except: Vec<_> = self.items("virtual-ip.except", &section.except, str::parse);
        if section.enabled && self.is_empty("virtual-ip.programs", &section.programs) {
            let message = "no program is listed, so none is virtualised";
            let help = "write \"*\" for every program of a session, or enabled = false";
            self.warning("virtual-ip.programs", message, help);
        }
        if section.enabled && except.contains(&ProgramPattern::All) {
            let message = "every program is excepted, so none is virtualised";
            self.warning("virtual-ip.except", message, "take \"*\" out, or write enabled = false");
        }
        VirtualIp {
            enabled: section.enabled,
            programs,
            except,
            children: section.children,
            when_exhausted: section.when_exhausted,
            ipv6_without_lease: section.ipv6_without_lease,
        }
    }

    fn loopback(&mut self, section: &file::Loopback, virtual_ip: bool) -> Loopback {
        let loopback = Loopback {
            enabled: section.enabled,
            programs: self.items("loopback.programs", &section.programs, str::parse),
            prefer: self.items("loopback.prefer", &section.prefer, str::parse),
            mapping: section.mapping,
        };
        if section.enabled {
            self.loopback_without_effect(section, virtual_ip);
            return loopback;
        }
        let without_effect = [
            ("loopback.programs", !section.programs.is_empty()),
            ("loopback.prefer", !section.prefer.is_empty()),
            ("loopback.mapping", section.mapping != Mapping::SessionPlusOne),
        ];
        for (key, _) in without_effect.into_iter().filter(|(_, written)| *written) {
            let message = format!("{key} has no effect while loopback.enabled is false");
            self.warning(key, message, "take it out");
        }
        loopback
    }

    /// It is on, and yet nobody has anything of it.
    fn loopback_without_effect(&mut self, section: &file::Loopback, virtual_ip: bool) {
        if !virtual_ip && !section.prefer.is_empty() {
            let message = "loopback.prefer has no effect while virtual-ip.enabled is false";
            self.warning("loopback.prefer", message, "take it out");
        } else if self.is_empty("loopback.programs", &section.programs) && section.prefer.is_empty()
        {
            let message = "no program is listed, so every program's 127.0.0.1 is the host's";
            let help = "write \"*\" for every program of a session, or enabled = false";
            self.warning("loopback.programs", message, help);
        }
    }

    fn hook(&mut self, section: &file::Hook) -> Vec<Exclusion> {
        if section.scope == Scope::Connect && !companion::CHOOSES_SOURCES {
            self.not_in_this_version("hook.scope", &"connect", "write \"bind\" on this system");
        }
        self.items("hook.exclude", &section.exclude, str::parse)
    }

    fn divert(&mut self, section: &file::Divert) -> Option<Divert> {
        if section.datapath == Datapath::Offload {
            self.not_in_this_version("divert.datapath", &"offload", "write \"auto\" or \"packet\"");
        }
        if section.on_failure == OnFailure::Closed {
            self.not_in_this_version("divert.on-failure", &"closed", "write \"open\"");
        }
        let exclude_ports = self.items("divert.exclude-ports", &section.exclude_ports, value::port);
        let hold = self.value("divert.hold", value::duration(&section.hold, LONGEST_HOLD))?;
        Some(Divert { hold, unknown_owner: section.unknown_owner, exclude_ports })
    }

    fn metrics(&mut self, section: &file::Metrics) -> Option<SocketAddr> {
        if section.listen.is_empty() {
            return None;
        }
        let listen = self.value("metrics.listen", value::socket_address(&section.listen))?;
        if !listen.ip().is_loopback() {
            let message = format!("{listen} can be read by everybody who reaches this host");
            self.warning("metrics.listen", message, "write \"127.0.0.1:9477\", or guard the port");
        }
        Some(listen)
    }

    /// Every item that is right; a finding for every one that is not.
    fn items<T>(
        &mut self,
        key: &str,
        texts: &[String],
        parse: fn(&str) -> Result<T, Refused>,
    ) -> Vec<T> {
        let mut values = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            match parse(text) {
                Ok(value) => values.push(value),
                Err(refused) => self.findings.push(wrong(key, refused).item(index)),
            }
        }
        values
    }

    /// Whether a list was left empty, not emptied because its items were wrong.
    fn is_empty(&self, key: &str, texts: &[String]) -> bool {
        texts.is_empty() && !self.findings.iter().any(|finding| finding.key == key)
    }

    fn value<T>(&mut self, key: &str, parsed: Result<T, Refused>) -> Option<T> {
        parsed.map_err(|refused| self.findings.push(wrong(key, refused))).ok()
    }

    fn not_in_this_version(&mut self, key: &str, value: &dyn Debug, help: &str) {
        self.findings.push(not_in_this_version(key, value, help));
    }

    fn error(&mut self, key: &str, message: impl Into<String>, help: &str) {
        self.findings.push(Finding::error(key, message, help));
    }

    fn warning(&mut self, key: &str, message: impl Into<String>, help: &str) {
        self.findings.push(Finding::warning(key, message, help));
    }
}

/// What to write instead of a pool that is too large. Whoever writes an IPv6 range
/// has a subnet of 2^64 in mind.
fn too_large(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "an address for each session that is logged on at once is enough",
        Family::Ipv6 => {
            "an address for each session that is logged on at once is enough: take a part of \
             the subnet, such as \"fd77::100-fd77::1ff\" or a /112"
        }
    }
}

fn wrong(key: &str, Refused { message, help }: Refused) -> Finding {
    Finding::error(key, message, help)
}

fn not_in_this_version(key: &str, value: &dyn Debug, help: &str) -> Finding {
    Finding::error(key, format!("{key} = {value:?} is not in this version"), help)
}
