//! Which packets are led into the queues, and how many were?

use super::conntrack;
use super::rules::{self, Packets, RuleSet, RulesError};
use super::{Counters, Nfqueue, OpenError, Waker};
use crate::divert::Selection;
use crate::flow::Pair;
use crate::packet::Protocol;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// The first of the seven queues that packets are diverted to.
pub const FIRST_QUEUE: u16 = 7770;

/// Leads packets here and lets go of them, while another thread takes them.
#[derive(Debug)]
pub struct Switch {
    waker: Waker,
    counters: Arc<Counters>,
    /// Packets that met rules of ours that have been replaced since.
    met: Packets,
    /// What was refused of the rules for pings.
    without_pings: Option<String>,
    /// Packets of IPv6 are led here too; why not, else. `None`: not looked for yet.
    ipv6: Option<Result<bool, String>>,
}

/// The queues could not be opened, or rules for them cannot be laid.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum DivertError {
    /// The queues.
    Queues(#[from] OpenError),
    /// The rules.
    Rules(#[from] RulesError),
}

/// Opens the queues; nothing is led to them before [`Switch::select`].
///
/// # Errors
/// There is no NFQUEUE or no iptables, somebody else has the queues, or the
/// caller is not root.
pub fn open() -> Result<(Nfqueue, Switch), DivertError> {
    // Whether iptables is there is said before anything is made.
    rules::packets(false)?;
    let (queues, waker) = Nfqueue::open(FIRST_QUEUE)?;
    let counters = queues.counters();
    let met = Packets::default();
    Ok((queues, Switch { waker, counters, met, without_pings: None, ipv6: None }))
}

impl Switch {
    /// Leads these packets here, and no others any more.
    ///
    /// # Errors
    /// IPv6 is needed and cannot be diverted, or iptables refuses; each of its tables is as it was or as it should be.
    pub fn select(&mut self, selection: &Selection) -> Result<(), RulesError> {
        self.look_for_ipv6(selection.needs_ipv6)?;
        // Rules that are replaced begin to count anew.
        self.met = self.packets()?;
        let rules = self.rule_set(selection);
        match rules::install(&rules) {
            Err(refused @ RulesError::Refused { .. }) if rules.ping_programs.is_some() => {
                // A kernel without xt_bpf has everything else.
                rules::install(&RuleSet { ping_programs: None, ..rules })?;
                self.without_pings = Some(refused.to_string());
                Ok(())
            }
            installed => installed,
        }
    }

    /// Without ip6tables, IPv6 is left alone; where it is needed, that is no answer.
    fn look_for_ipv6(&mut self, needed: bool) -> Result<(), RulesError> {
        match &self.ipv6 {
            Some(Ok(_)) => return Ok(()),
            Some(Err(_)) if !needed => return Ok(()),
            Some(Err(_)) | None => {}
        }
        self.ipv6 = Some(match rules::ipv6() {
            Err(error) if needed => return Err(error),
            Err(error) => {
                let sentence = format!("IPv6 is left alone, for it cannot be diverted: {error}");
                tracing::warn!("{sentence}");
                Err(sentence)
            }
            Ok(there) => Ok(there),
        });
        Ok(())
    }

    /// Forgets what was counted so far, as after taking over what a crash left.
    pub fn count_anew(&mut self) {
        self.met = Packets::default();
    }

    /// Whether packets are still led here. Somebody who flushes tables takes our
    /// rules along.
    ///
    /// # Errors
    /// iptables does not answer.
    pub fn holds(&self, selection: &Selection) -> Result<bool, RulesError> {
        rules::is_installed(&self.rule_set(selection))
    }

    /// Has the kernel forget conversations of a session that has ended: those with its
    /// virtual addresses, and those that were translated, by their inside ends.
    ///
    /// # Errors
    /// The kernel cannot do it (`nf_conntrack_netlink`).
    pub fn forget(
        &self,
        addresses: &[IpAddr],
        translated: &[(Protocol, Pair)],
    ) -> io::Result<usize> {
        conntrack::forget(addresses, translated)
    }

    /// Leads nothing here any more.
    ///
    /// # Errors
    /// iptables refuses.
    pub fn release(&mut self) -> Result<(), RulesError> {
        rules::remove()
    }

    /// The sessions' packets, diverted or not, since the daemon started.
    ///
    /// # Errors
    /// iptables does not answer.
    pub fn met(&self) -> Result<u64, RulesError> {
        let met = self.packets()?;
        Ok(met.session + met.pool)
    }

    /// Packets that the kernel's queues lost before anybody saw them.
    pub fn lost(&self) -> u64 {
        let losses = self.counters.losses().unwrap_or_default();
        losses.queue_dropped + losses.user_dropped
    }

    /// Packets that came cut short, and were dropped unseen.
    pub fn malformed(&self) -> u64 {
        self.counters.truncated()
    }

    /// What an administrator should know of it, as sentences.
    pub fn notices(&self) -> Vec<String> {
        let lost = self.lost();
        let sentence =
            || format!("{lost} packets were lost in full queues: the host is overloaded");
        let pings = self
            .without_pings
            .as_ref()
            .map(|refused| format!("pings of sessions leave from the host address: {refused}"));
        let lost = (lost > 0).then(sentence).into_iter();
        lost.chain(pings).chain(self.ipv6.clone().and_then(Result::err)).collect()
    }

    /// Ends the waiting of the thread that takes packets.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn packets(&self) -> Result<Packets, RulesError> {
        let now = rules::packets(self.has_ipv6())?;
        Ok(Packets { session: self.met.session + now.session, pool: self.met.pool + now.pool })
    }

    fn has_ipv6(&self) -> bool {
        matches!(self.ipv6, Some(Ok(true)))
    }

    fn rule_set(&self, selection: &Selection) -> RuleSet {
        let ping_programs = selection.ping_programs.clone();
        RuleSet {
            base_queue: FIRST_QUEUE,
            pool: selection.pool.clone(),
            scope_parents: selection.parents.clone(),
            ping_programs: ping_programs.filter(|_| self.without_pings.is_none()),
            ipv6: self.has_ipv6(),
        }
    }
}
