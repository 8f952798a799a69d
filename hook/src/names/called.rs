//! What is this machine called?

/// Its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    full: String,
    /// What NetBIOS calls it: at most 15 letters of the first.
    netbios: String,
}

/// What Windows documents for all addresses of this machine, beside no name at all.
const LOCAL_MACHINE: &str = "..localmachine";

impl Called {
    /// By its full name, with the domain if it has one, and by its NetBIOS name.
    pub fn new(full: String, netbios: String) -> Self {
        Self { full, netbios }
    }

    /// With its domain, if it has one.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// Without.
    pub fn alone(&self) -> &str {
        self.full.split('.').next().unwrap_or(&self.full)
    }

    /// Is that this machine? Also without its domain, with the dot that ends a full
    /// name, and in any case (RFC 4343).
    pub fn is_called(&self, asked: &str) -> bool {
        let bare = asked.strip_suffix('.').unwrap_or(asked);
        let is_name = |name: &str| !name.is_empty() && name.eq_ignore_ascii_case(bare);
        asked.is_empty()
            || asked.eq_ignore_ascii_case(LOCAL_MACHINE)
            || [&self.full, self.alone(), &self.netbios].into_iter().any(is_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_its_name_with_and_without_the_domain() {
        for (own, asked, is_it) in [
            ("ts1", "ts1", true),
            ("ts1", "TS1", true),
            ("ts1", "ts1.", true),
            ("ts1.example.org", "ts1", true),
            ("ts1.example.org", "ts1.Example.org", true),
            ("ts1.example.org", "ts1.Example.org.", true),
            ("ts1.example.org", "TS1-OF-FIFTEEN-", true),
            ("ts1", "", true),
            ("ts1", "..LocalMachine", true),
            ("ts1", "ts1.example.org", false),
            ("ts1", "ts1..", false),
            ("ts1", ".", false),
            ("ts1", "ts", false),
            ("ts1.example.org", "example.org", false),
            ("ts1", "localhost", false),
            ("ts1", "10.77.0.1", false),
            ("", "ts1", false),
        ] {
            let called = Called::new(own.to_owned(), "TS1-OF-FIFTEEN-".to_owned());
            assert_eq!(called.is_called(asked), is_it, "{asked} at {own}");
        }
    }

    #[test]
    fn nothing_known_is_nobodys_name() {
        let nothing = Called::default();
        assert!(!nothing.is_called("ts1") && !nothing.is_called("."));
    }
}
