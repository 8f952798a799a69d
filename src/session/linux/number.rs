//! Which number does a session of logind's get?

use crate::session::SessionId;

/// The last number whose session loopback (127.0.0.0 + number + 1) is one: after
/// it comes 127.255.255.255, the broadcast address of `lo`.
pub(super) const LAST: u32 = 0x00ff_fffd;

/// Numbers of ours begin here (127.128.0.1), far above what logind and
/// administrators count.
const FIRST_OF_OURS: u32 = 0x0080_0000;

/// The number of logind's session `name`: its own where it is one and free, else
/// a free one of ours. `c5` gets the fifth, so that it mostly has the same again
/// after a restart of the daemon.
pub(super) fn number_of(name: &str, taken: impl Fn(SessionId) -> bool) -> Option<SessionId> {
    let own = name.parse().ok().filter(|number| (1..FIRST_OF_OURS).contains(number));
    if let Some(own) = own.map(SessionId).filter(|own| !taken(*own)) {
        return Some(own);
    }
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    let ours = LAST - FIRST_OF_OURS + 1;
    let wish = digits.parse::<u32>().unwrap_or(0) % ours;
    (0..ours)
        .map(|step| SessionId(FIRST_OF_OURS + (wish + step) % ours))
        .find(|number| !taken(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gets_a_free_number_of_ours() {
        let number =
            |name: &str, taken: &[u32]| number_of(name, |id| taken.contains(&id.0)).map(|id| id.0);
        assert_eq!(number("7", &[]), Some(7));
        assert_eq!(number("7", &[7]), Some(FIRST_OF_OURS + 7));
        assert_eq!(number("c5", &[5]), Some(FIRST_OF_OURS + 5));
        assert_eq!(number("c5", &[FIRST_OF_OURS + 5]), Some(FIRST_OF_OURS + 6));
        assert_eq!(number("x", &[]), Some(FIRST_OF_OURS));
        assert_eq!(number("0", &[]), Some(FIRST_OF_OURS));
        assert!(number("4294967295", &[]).is_some_and(|n| (FIRST_OF_OURS..=LAST).contains(&n)));
        assert_eq!(number_of("c5", |_| true), None);
    }
}
