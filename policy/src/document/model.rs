//! What a policy says, as types: profiles, subjects, limits, moments. No reading and no checking in here.

use crate::capability::CapSet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a profile stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file's path.
    pub file: String,
    /// 1-based line of the table header.
    pub line: u32,
}

/// `scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// New user namespace and the rest.
    Isolated,
    /// Real capabilities of the machine.
    Host,
}

/// `user`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserMode {
    /// uid, gid and name stay.
    Own,
    /// uid 0 inside.
    Root,
}

/// `network`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own.
    Private,
    /// The host's.
    Host,
    /// One of its own, with a link into the [`Lan`] of that name.
    Named(String),
}

/// `kind` of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bridge that its sessions share.
    Bridge,
    /// A way out for each session alone, through sockets of the user's own.
    Outgoing,
}

/// One `[network.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // each field is the contract's key of that name
pub struct Lan {
    pub name: String,
    pub at: Location,
    pub description: Option<String>,
    pub kind: Kind,
    pub subnet: Subnet,
    pub gateway: Ipv4Addr,
    pub subnet6: Option<Subnet6>,
    pub nat: bool,
    pub isolate: bool,
    pub dns: Vec<IpAddr>,
    pub host_access: bool,
    pub antispoof: bool,
    /// A bridge that the administrator made; `None`: caplet's own.
    pub bridge: Option<String>,
}

/// An IPv6 network in CIDR form, with its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet6 {
    /// Its first address.
    pub address: Ipv6Addr,
    /// How many bits of it are the network's: 96 at most, the last 32 are a member's IPv4 address.
    pub prefix: u8,
    /// `gateway6`.
    pub gateway: Ipv6Addr,
}

/// An IPv4 network in CIDR form; no bit of its address is a host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Its first address.
    pub address: Ipv4Addr,
    /// How many bits of it are the network's.
    pub prefix: u8,
}

/// `home`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// As it is.
    ReadWrite,
    /// Read-only.
    ReadOnly,
    /// An empty one that is gone afterwards.
    Tmpfs,
}

/// `seccomp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seccomp {
    /// What the grant does not stand for is off: [`crate::syscalls`].
    Default,
    /// Every system call that the kernel gives a user.
    None,
}

/// `why`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Why {
    /// From the rules of the front end alone.
    #[default]
    Rules,
    /// Also from the kernel's own trace, which the helper reads for it.
    Trace,
}

/// `auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Nothing is asked.
    None,
    /// The user's own password, through PAM.
    Password,
}

/// `groups_keep`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupsKeep {
    /// `"all"`.
    All,
    /// The default of isolated sessions: all but the well-known root-equivalents (see [`ROOT_GROUPS`]).
    NotRootEquivalent,
    /// Exactly those of the caller's that are named here: names or `#gid`.
    Listed(Vec<Subject>),
}

/// Groups whose members are as good as root on a machine where the usual services run.
pub const ROOT_GROUPS: [&str; 12] = [
    "docker",
    "lxd",
    "incus-admin",
    "libvirt",
    "libvirtd",
    "microk8s",
    "disk",
    "kvm",
    "shadow",
    "sudo",
    "wheel",
    "adm",
];

/// A user or a group as the policy names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `*` (users only).
    Everybody,
    /// A login or group name.
    Name(String),
    /// `#1004`.
    Id(u32),
}

/// One entry of `commands`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The absolute path.
    pub path: String,
    /// Exactly these arguments; `None`: any.
    pub args: Option<Vec<String>>,
}

/// One limit of `limits`, in the kernel's units (bytes, seconds, counts); `u64::MAX` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Which: the name of limits.conf(5), one of [`LIMIT_NAMES`].
    pub name: &'static str,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// `cgroup`: what all processes of a session may have together. One that is `None` is not limited here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cgroup {
    /// How many processes and threads: pids.max.
    pub tasks: Option<u32>,
    /// Bytes: memory.max, without swap.
    pub memory: Option<u64>,
    /// Percent of one processor: cpu.max.
    pub cpu: Option<u32>,
}

/// The names of limits.conf(5) that are resource limits of setrlimit(2).
pub const LIMIT_NAMES: [&str; 16] = [
    "core",
    "data",
    "fsize",
    "memlock",
    "nofile",
    "rss",
    "stack",
    "cpu",
    "nproc",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// A point in time as TOML writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A date or date-time without offset, in the machine's time zone. A bare date in `valid_until` stands here
    /// as 23:59:59 of that day (and in `valid_from` as 00:00:00).
    Local(Civil),
    /// A date-time with offset: seconds since the epoch.
    Unix(i64),
}

/// A calendar time. Field order makes the derived comparison the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct Civil {
    pub year: i32,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

/// One `[profile.NAME]`, defaults merged in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // each field is the contract's key of that name
pub struct Profile {
    pub name: String,
    pub at: Location,
    pub description: Option<String>,
    pub scope: Scope,
    pub users: Vec<Subject>,
    pub groups: Vec<Subject>,
    pub not_users: Vec<Subject>,
    pub not_groups: Vec<Subject>,
    /// Host name patterns with `*` and `?`; empty: every machine.
    pub machines: Vec<String>,
    /// The starting set; `None`: the default of the user mode (own: empty, root: Docker's 14; host: empty).
    pub caps: Option<CapSet>,
    pub may_add: CapSet,
    /// `may_add` says `ALL`.
    pub may_add_all: bool,
    pub auth: Auth,
    pub auth_cache_minutes: u32,
    pub pam_account: bool,
    pub pam_session: bool,
    pub valid_from: Option<Moment>,
    pub valid_until: Option<Moment>,
    pub limits: Vec<Limit>,
    pub cgroup: Option<Cgroup>,
    pub umask: Option<u32>,
    pub env_keep: Vec<String>,
    pub env_set: BTreeMap<String, String>,
    pub shell: Option<String>,
    pub groups_keep: GroupsKeep,
    pub max_sessions: u32,
    /// Minutes.
    pub max_lifetime: Option<u32>,
    // isolated only
    pub login: bool,
    pub user: UserMode,
    pub network: Network,
    pub home: Home,
    /// Bytes.
    pub tmp_size: Option<u64>,
    pub writable: Vec<String>,
    /// The profile's own and those of `[defaults]` together: a profile cannot show what the defaults hide.
    pub hide: Vec<String>,
    pub devices: Vec<String>,
    pub hostname: Option<String>,
    pub subids: bool,
    pub time_namespace: bool,
    pub nested_userns: bool,
    pub seccomp: Seccomp,
    pub privileged: bool,
    pub linger: bool,
    /// From what `caplet why` knows the capability that was missing.
    pub why: Why,
    // host only
    pub commands: Option<Vec<Command>>,
    pub home_keep: bool,
    pub no_new_privs: bool,
    pub accept_root_equivalent: bool,
}

impl Profile {
    /// A profile of that name and scope in which no key is set: every field has the contract's default, and
    /// nobody is its subject. [`Profile::at`] is empty.
    pub fn new(name: impl Into<String>, scope: Scope) -> Self {
        let host = scope == Scope::Host;
        Self {
            name: name.into(),
            at: Location { file: String::new(), line: 0 },
            description: None,
            scope,
            users: Vec::new(),
            groups: Vec::new(),
            not_users: Vec::new(),
            not_groups: Vec::new(),
            machines: Vec::new(),
            caps: None,
            may_add: CapSet::EMPTY,
            may_add_all: false,
            auth: Auth::None,
            auth_cache_minutes: 5,
            pam_account: host,
            pam_session: false,
            valid_from: None,
            valid_until: None,
            limits: Vec::new(),
            cgroup: None,
            umask: None,
            env_keep: Vec::new(),
            env_set: BTreeMap::new(),
            shell: None,
            groups_keep: if host { GroupsKeep::All } else { GroupsKeep::NotRootEquivalent },
            max_sessions: 32,
            max_lifetime: None,
            login: false,
            user: UserMode::Own,
            network: Network::Private,
            home: Home::ReadWrite,
            tmp_size: None,
            writable: Vec::new(),
            hide: Vec::new(),
            devices: Vec::new(),
            hostname: None,
            subids: false,
            time_namespace: false,
            nested_userns: false,
            seccomp: Seccomp::Default,
            privileged: false,
            linger: false,
            why: Why::default(),
            commands: None,
            home_keep: false,
            no_new_privs: true,
            accept_root_equivalent: false,
        }
    }

    /// Whether PAM has a say: a password, the account's state, or a PAM session.
    pub fn needs_pam(&self) -> bool {
        self.auth == Auth::Password || self.pam_account || self.pam_session
    }

    /// The starting set with the default of its kind filled in.
    pub fn starting_set(&self) -> CapSet {
        match (self.caps, self.scope, self.user) {
            (Some(set), _, _) => set,
            (None, Scope::Isolated, UserMode::Root) => CapSet::DOCKER,
            (None, _, _) => CapSet::EMPTY,
        }
    }
}
