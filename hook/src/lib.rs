//! The companion hook: how two sessions can listen on the same port.
