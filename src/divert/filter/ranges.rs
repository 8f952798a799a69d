//! How do many ranges become few?

/// The ranges in order, none touching another, joined across the smallest gaps
/// until they take at most `room` tests: one for a single value, else two.
pub(super) fn fit(ranges: &[(u128, u128)], room: usize) -> Vec<(u128, u128)> {
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    let apart = join(&ranges, |_, gap| gap <= 1);
    let pairs = apart.iter().zip(apart.iter().skip(1));
    let mut gaps: Vec<_> = pairs.map(|((_, last), (first, _))| first - last).zip(1..).collect();
    gaps.sort_unstable();
    let closing = |count| {
        let mut closed = vec![false; apart.len()];
        for (_, at) in gaps.iter().take(count) {
            closed.get_mut(*at).into_iter().for_each(|closed| *closed = true);
        }
        join(&apart, |at, _| closed.get(at).is_some_and(|closed| *closed))
    };
    // Closing one more gap never takes more tests: half of what is left is ruled
    // out each time.
    let (mut low, mut high) = (0, gaps.len());
    while low < high {
        let middle = low.midpoint(high);
        if tests(&closing(middle)) > room {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    closing(low)
}

/// Joins each range with the one before it where `near` says so, by its place
/// and the gap between them.
fn join(ranges: &[(u128, u128)], near: impl Fn(usize, u128) -> bool) -> Vec<(u128, u128)> {
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (at, (first, last)) in ranges.iter().enumerate() {
        match joined.last_mut() {
            Some((_, end)) if near(at, first.saturating_sub(*end)) => *end = (*end).max(*last),
            _ => joined.push((*first, *last)),
        }
    }
    joined
}

fn tests(ranges: &[(u128, u128)]) -> usize {
    ranges.iter().map(|(first, last)| if first == last { 1 } else { 2 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_overlaps_are_one() {
        assert_eq!(fit(&[(5, 9), (1, 2), (3, 4), (8, 12)], 99), [(1, 12)]);
        assert_eq!(fit(&[(1, 9), (3, 4), (11, 11)], 99), [(1, 9), (11, 11)]);
        assert_eq!(fit(&[], 1), []);
    }

    #[test]
    fn the_smallest_gaps_are_closed_first_and_nothing_is_left_out() {
        let scattered: Vec<_> = (0..200_u128).map(|n| (n * n, n * n)).collect();
        let fitted = fit(&scattered, 20);
        assert!(tests(&fitted) <= 20);
        let holds = |value| fitted.iter().any(|(first, last)| (*first..=*last).contains(&value));
        assert!(scattered.iter().all(|(value, _)| holds(*value)));
        assert!(!holds(199 * 199 - 1), "the widest gap stays open");
        assert_eq!(fit(&[(0, 0), (u128::MAX, u128::MAX)], 0), [(0, u128::MAX)]);
    }
}
