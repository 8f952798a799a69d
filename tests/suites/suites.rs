//! Which suites are there, and by which commands do they run?

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where Debian has them.
const PYTHON: &str = "/usr/bin/python3";
const GO_ROOT: &str = "/usr/lib/go";

/// So long may one run of a suite take, in seconds.
pub(crate) const LIMIT: u64 = 240;

/// Tests that one process runs, one after the other.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// So many must pass without sessionip, or this machine lacks something.
    pub(crate) least: usize,
}

pub(crate) enum Kind {
    /// Modules of CPython's own tests, and what else is told to its test runner.
    Python { modules: &'static [&'static str], options: &'static [&'static str] },
    /// A package of Go's standard library.
    Go,
}

const fn python(name: &'static str, modules: &'static [&'static str], least: usize) -> Suite {
    Suite { name, kind: Kind::Python { modules, options: &[] }, least }
}

const fn go(name: &'static str, least: usize) -> Suite {
    Suite { name, kind: Kind::Go, least }
}

/// The longest first, so that none of them is alone at the end.
pub(crate) static SUITES: [Suite; 22] = [
    python(
        "asyncio events",
        &[
            "test_asyncio.test_events",
            "test_asyncio.test_selector_events",
            "test_asyncio.test_server",
            "test_asyncio.test_sock_lowlevel",
            "test_asyncio.test_streams",
            "test_asyncio.test_transports",
            "test_asyncio.test_unix_events",
        ],
        500,
    ),
    python(
        "asyncio tls",
        &[
            "test_asyncio.test_base_events",
            "test_asyncio.test_buffered_proto",
            "test_asyncio.test_sendfile",
            "test_asyncio.test_ssl",
            "test_asyncio.test_sslproto",
        ],
        200,
    ),
    python("ssl", &["test_ssl"], 150),
    python("mail", &["test_imaplib", "test_poplib", "test_smtplib", "test_smtpd"], 390),
    python("socket", &["test_socket", "test_select", "test_epoll"], 600),
    python("logging", &["test_logging"], 210),
    python("xmlrpc", &["test_xmlrpc", "test_docxmlrpc"], 100),
    python("clients", &["test_ftplib", "test_telnetlib", "test_nntplib"], 180),
    python(
        "http",
        &[
            "test_httpservers",
            "test_httplib",
            "test_wsgiref",
            "test_urllib",
            "test_urllib2",
            "test_urllib2_localnet",
            "test_robotparser",
        ],
        480,
    ),
    python("events", &["test_selectors", "test_asyncore", "test_asynchat"], 190),
    Suite {
        name: "socketserver",
        kind: Kind::Python { modules: &["test_socketserver"], options: &["-u", "network"] },
        least: 20,
    },
    Suite {
        name: "managers",
        kind: Kind::Python {
            modules: &["test_multiprocessing_fork"],
            options: &["-m", "*Listener*", "-m", "*RemoteManager*", "-m", "*ManagerRestart*"],
        },
        least: 10,
    },
    go("net", 315),
    go("net/http", 665),
    go("net/http/pprof", 12),
    go("net/http/httputil", 48),
    go("net/http/httptest", 57),
    go("net/http/fcgi", 12),
    go("net/rpc", 13),
    go("net/rpc/jsonrpc", 9),
    go("net/smtp", 19),
    go("crypto/tls", 290),
];

/// All of them, or those that `SUITES=net,socket` in the environment names.
pub(crate) fn chosen() -> Vec<&'static Suite> {
    let Ok(names) = std::env::var("SUITES") else { return SUITES.iter().collect() };
    let names: Vec<_> = names.split(',').collect();
    let known = |name: &&str| SUITES.iter().any(|suite| suite.name == *name);
    assert!(names.iter().all(known), "SUITES names {names:?}, and there are not all of these");
    SUITES.iter().filter(|suite| names.contains(&suite.name)).collect()
}

impl Suite {
    /// The words that run it, or only `tests` of it.
    pub(crate) fn command(&self, tests: &[String], folder: &Path, built: &Path) -> Vec<String> {
        match &self.kind {
            Kind::Python { modules, options } => {
                let report = report(folder).display().to_string();
                let mut words = words(&["env", "PYTHONDONTWRITEBYTECODE=1", PYTHON]);
                words.extend(self::words(&["-m", "test", "-v", "--junit-xml", &report]));
                words.push(format!("--timeout={}", LIMIT - 20));
                if tests.is_empty() {
                    words.extend(self::words(options));
                } else {
                    // Resources, such as `-u network`, are as they were.
                    let resources = options.chunks(2).filter(|option| option[0] == "-u");
                    words.extend(resources.flat_map(self::words));
                    words.extend(tests.iter().flat_map(|test| ["-m".to_owned(), test.clone()]));
                }
                words.extend(self::words(modules));
                words
            }
            Kind::Go => {
                let place = format!("--chdir={GO_ROOT}/src/{}", self.name);
                let program = built.join(go_test(self.name)).display().to_string();
                let root = format!("GOROOT={GO_ROOT}");
                // Where flags are set, tests that would build programs are skipped.
                let mut words = words(&["env", &place, &root, "GO_GCFLAGS=-N", &program]);
                words.extend(self::words(&["-test.v", "-test.short"]));
                words.push(format!("-test.timeout={}s", LIMIT - 20));
                if !tests.is_empty() {
                    let mut names: Vec<_> = tests.iter().map(|test| self.top(test)).collect();
                    names.dedup();
                    words.push(format!("-test.run=^({})$", names.join("|")));
                }
                words
            }
        }
    }

    /// Whether a test is one of this suite's.
    pub(crate) fn has(&self, test: &str) -> bool {
        match &self.kind {
            Kind::Python { modules, .. } => {
                modules.iter().any(|module| test.starts_with(&format!("test.{module}.")))
            }
            Kind::Go => test.starts_with(&format!("{}.", self.name)),
        }
    }

    /// The function of a Go test or of a part of one.
    fn top<'a>(&self, test: &'a str) -> &'a str {
        let name = &test[self.name.len() + 1..];
        name.split('/').next().unwrap_or(name)
    }
}

/// Where CPython's test runner writes what became of each test.
pub(crate) fn report(folder: &Path) -> PathBuf {
    folder.join("report.xml")
}

/// Compiles the tests of Go's packages, where that was not done before: without
/// C, so that they are static programs whose calls no library could intercept.
/// Where users of sessions reach them.
pub(crate) fn build() -> TempDir {
    let installed = std::fs::metadata(format!("{GO_ROOT}/VERSION"));
    let installed = installed.expect("these tests need .ci/setup: Go is missing").modified();
    let installed = installed.unwrap();
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let shared = tempfile::Builder::new().prefix("sip-suites-go").tempdir().unwrap();
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for suite in SUITES.iter().filter(|suite| matches!(suite.kind, Kind::Go)) {
        let built = scratch.join(go_test(suite.name));
        let when = std::fs::metadata(&built).and_then(|metadata| metadata.modified());
        if when.is_err() || when.is_ok_and(|when| when < installed) {
            let mut go = Command::new(format!("{GO_ROOT}/bin/go"));
            go.args(["test", "-c", "-o"]).arg(&built).arg(suite.name);
            go.env("GOCACHE", scratch.join("go-cache"));
            go.envs([("CGO_ENABLED", "0"), ("GOPROXY", "off"), ("GOFLAGS", "")]);
            let output = go.current_dir(format!("{GO_ROOT}/src")).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let link = shared.path().join(go_test(suite.name));
        if std::fs::hard_link(&built, &link).is_err() {
            std::fs::copy(&built, &link).unwrap();
        }
    }
    shared
}

fn go_test(package: &str) -> String {
    format!("go-{}.test", package.replace('/', "-"))
}

fn words(words: &[impl AsRef<str>]) -> Vec<String> {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
}
