//! How do interpreters read their arguments?

/// What an option means for what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Meaning {
    /// It takes a value: the rest of its word, else the next argument.
    Value = 1,
    /// What runs is no file: a command, a module, the standard input.
    NoFile = 2,
    /// The rest of its word belongs to it.
    Rest = 3,
    /// The next argument is the file.
    File = 4,
    /// The first argument that is no option is the file; without it none is.
    Jar = 5,
}

/// How an interpreter reads its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its file's names, without a version at the end and without `.exe`.
    pub names: &'static [&'static str],
    /// Options of one letter, which may stand together behind one `-`.
    pub letters: &'static [(char, Meaning)],
    /// Whole words, with their `-`. An option that is in neither has no value.
    pub words: &'static [(&'static str, Meaning)],
    /// It has letters; without, every option is a word.
    pub clusters: bool,
    /// Options may begin with `+` too.
    pub plus: bool,
    /// Only [`Meaning::Jar`] makes it run a file.
    pub only_jar: bool,
}

use Meaning::{File, Jar, NoFile, Rest, Value};

const PLAIN: Rule =
    Rule { names: &[], letters: &[], words: &[], clusters: true, plus: false, only_jar: false };

/// The interpreters that are known. What another one runs is known where the
/// system started it for the file (`#!`).
pub const RULES: &[Rule] = &[
    Rule {
        names: &["python", "pythonw", "pypy", "pypyw", "py", "pyw"],
        letters: &[('c', NoFile), ('m', NoFile), ('W', Value), ('X', Value), ('Q', Value)],
        words: &[("--check-hash-based-pycs", Value)],
        ..PLAIN
    },
    Rule {
        names: &["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"],
        letters: &[('c', NoFile), ('s', NoFile), ('o', Value), ('O', Value)],
        words: &[("--rcfile", Value), ("--init-file", Value)],
        plus: true,
        ..PLAIN
    },
    Rule {
        names: &["perl", "wperl"],
        letters: &[
            ('e', NoFile),
            ('E', NoFile),
            ('I', Value),
            ('i', Rest),
            ('F', Rest),
            ('m', Rest),
            ('M', Rest),
            ('C', Rest),
            ('D', Rest),
            ('d', Rest),
            ('x', Rest),
            ('V', Rest),
        ],
        ..PLAIN
    },
    Rule {
        names: &["ruby", "rubyw", "jruby"],
        letters: &[
            ('e', NoFile),
            ('I', Value),
            ('r', Value),
            ('C', Value),
            ('E', Value),
            ('i', Rest),
            ('F', Rest),
            ('K', Rest),
            ('T', Rest),
            ('W', Rest),
            ('x', Rest),
        ],
        words: &[("--encoding", Value), ("--external-encoding", Value)],
        ..PLAIN
    },
    Rule {
        names: &["node", "nodejs"],
        words: &[
            ("-e", NoFile),
            ("--eval", NoFile),
            ("-p", NoFile),
            ("-pe", NoFile),
            ("--print", NoFile),
            ("-r", Value),
            ("--require", Value),
            ("--import", Value),
            ("--loader", Value),
            ("--experimental-loader", Value),
            ("-C", Value),
            ("--conditions", Value),
            ("--env-file", Value),
            ("--title", Value),
        ],
        clusters: false,
        ..PLAIN
    },
    Rule {
        names: &["php", "php-cgi", "php-win"],
        letters: &[
            ('r', NoFile),
            ('R', NoFile),
            ('B', NoFile),
            ('a', NoFile),
            ('c', Value),
            ('d', Value),
            ('z', Value),
            ('S', Value),
            ('t', Value),
            ('f', File),
            ('F', File),
        ],
        words: &[("--file", File), ("--run", NoFile), ("--php-ini", Value), ("--define", Value)],
        ..PLAIN
    },
    Rule { names: &["lua", "luajit", "texlua"], letters: &[('e', Value), ('l', Value)], ..PLAIN },
    Rule {
        names: &["tclsh", "wish", "expect"],
        letters: &[('c', Value), ('f', File)],
        words: &[("-encoding", Value)],
        ..PLAIN
    },
    Rule {
        names: &["java", "javaw"],
        words: &[
            ("-jar", Jar),
            ("-m", NoFile),
            ("--module", NoFile),
            ("-cp", Value),
            ("-classpath", Value),
            ("--class-path", Value),
            ("-p", Value),
            ("--module-path", Value),
            ("--upgrade-module-path", Value),
            ("--add-modules", Value),
            ("--add-reads", Value),
            ("--add-exports", Value),
            ("--add-opens", Value),
            ("--limit-modules", Value),
            ("--patch-module", Value),
            ("--enable-native-access", Value),
            ("--source", Value),
        ],
        clusters: false,
        only_jar: true,
        ..PLAIN
    },
];
