//! What was ordered and not yet taken? Handlers of the system put it here, from
//! threads of theirs, and never wait.

use super::Order;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// One of each kind at most: it is bounded, and nothing is lost.
#[derive(Debug, Default)]
struct Pending {
    stop: bool,
    reload: bool,
    resumed: bool,
}

static PENDING: Mutex<Pending> = Mutex::new(Pending { stop: false, reload: false, resumed: false });
static ORDERED: Condvar = Condvar::new();

/// Notes an order.
pub(super) fn put(order: Order) {
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    pending.put(order);
    drop(pending);
    ORDERED.notify_all();
}

/// The next order, waited for up to `wait`.
pub(super) fn take(wait: Duration) -> Option<Order> {
    let pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = ORDERED.wait_timeout_while(pending, wait, |pending| !pending.any());
    let (mut pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
    pending.take()
}

impl Pending {
    fn put(&mut self, order: Order) {
        *self.of(order) = true;
    }

    fn any(&self) -> bool {
        self.stop || self.reload || self.resumed
    }

    fn take(&mut self) -> Option<Order> {
        let orders = [Order::Stop, Order::Resumed, Order::Reload];
        orders.into_iter().find(|order| std::mem::take(self.of(*order)))
    }

    fn of(&mut self, order: Order) -> &mut bool {
        match order {
            Order::Stop => &mut self.stop,
            Order::Reload => &mut self.reload,
            Order::Resumed => &mut self.resumed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_taken_once_and_to_stop_comes_first() {
        let mut pending = Pending::default();
        for order in [Order::Reload, Order::Resumed, Order::Reload, Order::Stop] {
            pending.put(order);
        }
        let taken: Vec<_> = std::iter::from_fn(|| pending.take()).collect();
        assert_eq!(taken, [Order::Stop, Order::Resumed, Order::Reload]);
        assert!(!pending.any());
    }
}
