//! Does the host lay rules of ours at its next boot, by itself?

use super::PREFIX;
use crate::config::reading;
use std::path::{Path, PathBuf};

/// Where distributions keep the rules that they restore: Debian's
/// iptables-persistent, Red Hat's iptables-services, Arch and Gentoo.
const FILES: [&str; 7] = [
    "etc/iptables/rules.v4",
    "etc/iptables/rules.v6",
    "etc/sysconfig/iptables",
    "etc/sysconfig/ip6tables",
    "etc/iptables/iptables.rules",
    "etc/iptables/ip6tables.rules",
    "var/lib/iptables/rules-save",
];
const LARGEST: u64 = 64 << 20;

/// The files that hold rules of ours, because somebody saved all rules while the
/// daemon ran. They name cgroups and pinned programs that are not there at boot
/// (xt_cgroup and xt_bpf look for them when a rule is laid): a restore refuses
/// the table, and with it everybody else's rules.
pub fn stored() -> Vec<PathBuf> {
    stored_below(Path::new("/"))
}

fn stored_below(root: &Path) -> Vec<PathBuf> {
    let files = FILES.iter().map(|file| root.join(file));
    files.filter(|file| reading::whole(file, LARGEST).is_ok_and(|text| has_ours(&text))).collect()
}

fn has_ours(text: &[u8]) -> bool {
    text.windows(PREFIX.len()).any(|it| it == PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_files_with_rules_of_ours_are_named() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(stored_below(root.path()), [""; 0].map(PathBuf::from));
        for (file, rule) in [
            ("etc/iptables/rules.v4", "-A OUTPUT -j ACCEPT"),
            ("etc/iptables/rules.v6", "-A PREROUTING -j SESSIONIP-IN"),
            ("etc/sysconfig/iptables", ":SESSIONIP-OUT - [0:0]"),
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("*raw\n{rule}\nCOMMIT\n")).unwrap();
        }
        let expected = ["etc/iptables/rules.v6", "etc/sysconfig/iptables"];
        assert_eq!(stored_below(root.path()), expected.map(|file| root.path().join(file)));
    }
}
