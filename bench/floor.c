/* The floor: what a session costs when nothing is asked, judged or checked. A setuid program that makes the same kernel
 * objects by the same calls as caplet: name service, policy file, log socket, session record, relay, guard, and for
 * `iso` the namespaces, the identity map, the mounts and PID 1. Each failing call ends it. Only for measurements.
 * `session` is host with a PAM account and session, the modules in the program's own process, where caplet gives them one.
 * usage (installed setuid root, only inside the throwaway machine): floor host|session|iso COMMAND [ARG...] */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#define must(call) ({ long r_ = (long)(call); if (r_ < 0) { dprintf(2, "floor:%d: %s: %s\n", __LINE__, #call, strerror(errno)); _exit(125); } r_; })
enum { NICE = 23, LAST = 40 };
static uid_t uid; static gid_t gid;
static char buffer[4096];

static void slurp(const char *path) { int f = must(open(path, O_RDONLY | O_CLOEXEC)); while (must(read(f, buffer, sizeof buffer)) > 0); close(f); }
static void caps(unsigned long permitted, unsigned long inheritable) {
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { { permitted, permitted, inheritable }, { permitted >> 32, permitted >> 32, inheritable >> 32 } };
    must(syscall(SYS_capset, &head, data));
}
/* Bounding set, user, five sets, securebits and no_new_privs, as for a command. */
static void become(unsigned long keep) {
    for (int c = 0; c <= LAST; c++) if (!(keep >> c & 1)) must(prctl(PR_CAPBSET_DROP, c, 0, 0, 0));
    must(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS));
    must(setresgid(gid, gid, gid)); must(setresuid(uid, uid, uid));
    caps(keep, keep);
    for (int c = 0; c <= LAST; c++) if (keep >> c & 1) must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0));
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}
static void confine(void) {
    struct sock_filter code[37];
    for (int i = 0; i < 36; i++) code[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    code[36] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &(struct sock_fprog){ 37, code }));
}
static void run(char **command) {
    signal(SIGPIPE, SIG_DFL);
    execv(command[0], command); _exit(127);
}
static int made(const char *type, int pairs, const char *const *options, unsigned attributes) {
    int f = must(fsopen(type, FSOPEN_CLOEXEC));
    for (int i = 0; i < pairs; i++) must(fsconfig(f, FSCONFIG_SET_STRING, options[2 * i], options[2 * i + 1], 0));
    must(fsconfig(f, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
    int m = must(fsmount(f, FSMOUNT_CLOEXEC, attributes)); close(f); return m;
}
static const char *const MODES[] = { "mode", "755", "uid", "0", "gid", "0" };
static int tmpfs(void) { return made("tmpfs", 3, MODES, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV); }
static void put(int m, const char *path) { must(move_mount(m, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH)); }
static void write_to(int folder, pid_t pid, const char *name, const char *text) {
    char path[64]; snprintf(path, sizeof path, "%d/%s", pid, name);
    int f = must(openat(folder, path, O_WRONLY | O_CLOEXEC)); must(write(f, text, strlen(text))); close(f);
}
static void mounts(int pidfd, pid_t first, int proc, int devpts) {
    char line[64]; snprintf(line, sizeof line, "%d %d 1\n", uid, uid);
    write_to(proc, first, "setgroups", "deny"); write_to(proc, first, "gid_map", line); write_to(proc, first, "uid_map", line);
    must(setns(pidfd, CLONE_NEWPID));
    int ends[2]; must(pipe2(ends, O_CLOEXEC));
    pid_t maker = must(syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0)); /* in the session's namespaces: its proc, sysfs, mqueue */
    if (!maker) {
        must(setns(pidfd, CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)); must(unshare(CLONE_NEWNS));
        int fds[3] = { made("proc", 0, NULL, MOUNT_ATTR_NOSUID), made("sysfs", 0, NULL, MOUNT_ATTR_NOSUID), made("mqueue", 0, NULL, MOUNT_ATTR_NOSUID) };
        must(write(ends[1], fds, sizeof fds)); _exit(0);
    }
    int status, fds[3]; must(waitpid(maker, &status, 0)); if (status) _exit(125);
    must(read(ends[0], fds, sizeof fds)); close(ends[0]); close(ends[1]);
    struct passwd *user = getpwuid(uid);
    int home = must(open_tree(AT_FDCWD, user->pw_dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
    must(mount_setattr(home, "", AT_EMPTY_PATH | AT_RECURSIVE, &(struct mount_attr){ .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV }, sizeof(struct mount_attr)));
    must(mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &(struct mount_attr){ .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, .propagation = MS_PRIVATE }, sizeof(struct mount_attr)));
    for (const char **p = (const char *[]){ "/proc", "/sys", "/dev", "/run", "/tmp", NULL }; *p; p++) must(umount2(*p, MNT_DETACH | UMOUNT_NOFOLLOW));
    put(fds[0], "/proc"); put(fds[1], "/sys");
    int dev = made("tmpfs", 3, MODES, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    const struct { const char *name; int major, minor; } nodes[] = { { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };
    for (int i = 0; i < 6; i++) must(mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
    const char *links[] = { "pts/ptmx", "ptmx", "/proc/self/fd", "fd", "/proc/self/fd/0", "stdin", "/proc/self/fd/1", "stdout", "/proc/self/fd/2", "stderr" };
    for (int i = 0; i < 5; i++) must(symlinkat(links[2 * i], dev, links[2 * i + 1]));
    for (const char **p = (const char *[]){ "pts", "shm", "mqueue", NULL }; *p; p++) must(mkdirat(dev, *p, 0755));
    put(dev, "/dev"); put(devpts, "/dev/pts"); put(fds[2], "/dev/mqueue"); put(tmpfs(), "/dev/shm"); put(tmpfs(), "/tmp"); put(tmpfs(), "/var/tmp");
    int away = tmpfs(); must(mkdirat(away, "user", 0755)); must(mkdirat(away, "lock", 0755)); put(away, "/run");
    int homes = tmpfs(); must(mkdirat(homes, user->pw_name, 0755)); put(homes, "/home"); put(home, user->pw_dir); put(tmpfs(), "/root");
}
static void guard(int relay, int record, int log, int iso, char **command, pid_t *first) {
    int pidfd = -1, pair[2], devpts = -1;
    must(setsid()); must(setgroups(1, &gid));
    must(unshare(CLONE_NEWNS));
    int proc = must(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    if (iso) {
        const char *options[] = { "ptmxmode", "0666", "mode", "0620" };
        devpts = made("devpts", 2, options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    }
    int flags = iso ? CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET : 0;
    *first = must(syscall(SYS_clone, flags | CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0));
    if (!*first) {
        char go; close(pair[0]); if (read(pair[1], &go, 1) != 1) _exit(125);
        if (iso) {
            must(setsid()); must(unshare(CLONE_NEWNS));
            pid_t below = must(fork());
            if (below) { int status; become(0); must(waitpid(below, &status, 0)); _exit(WEXITSTATUS(status)); }
        }
        become(iso ? 0 : 1UL << NICE);
        run(command);
    }
    if (iso) mounts(pidfd, *first, proc, devpts);
    must(write(pair[0], "g", 1));
    must(setgroups(0, NULL)); caps(1UL << 5, 0); must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); confine();
    sigset_t child; sigemptyset(&child); sigaddset(&child, SIGCHLD);
    int signals = must(signalfd(-1, &child, SFD_CLOEXEC));
    struct pollfd wait[2] = { { pidfd, POLLIN, 0 }, { relay, POLLHUP, 0 } };
    must(poll(wait, 2, -1)); close(signals);
    siginfo_t end; must(waitid(P_PID, *first, &end, WEXITED));
    must(send(log, "<85>floor: end", 14, MSG_NOSIGNAL)); must(ftruncate(record, 0));
    must(send(relay, &end.si_status, sizeof end.si_status, MSG_NOSIGNAL)); _exit(0);
}
static int silent(int n, const struct pam_message **questions, struct pam_response **answers, void *data) { return PAM_CONV_ERR; }
static pam_handle_t *pam; static void *library;
/* Loaded only when wanted, as caplet does. */
#define pam(call, ...) ((int (*)())dlsym(library, "pam_" #call))(__VA_ARGS__)
#define well(code) do { if (code) { dprintf(2, "floor:%d: PAM says no\n", __LINE__); _exit(125); } } while (0)
static void open_session(void) {
    static char name[64]; snprintf(name, sizeof name, "%s", getpwuid(uid)->pw_name);
    well(!(library = dlopen("libpam.so.0", RTLD_NOW)));
    must(setresuid(uid, 0, 0));
    well(pam(start, "caplet", name, &(struct pam_conv){ silent, NULL }, &pam));
    well(pam(set_item, pam, PAM_TTY, "")); well(pam(set_item, pam, PAM_RUSER, name)); well(pam(acct_mgmt, pam, 0));
    must(setresuid(0, 0, 0));
    well(pam(setcred, pam, PAM_ESTABLISH_CRED)); well(pam(open_session, pam, 0));
}
static void close_session(void) { well(pam(close_session, pam, 0)); well(pam(setcred, pam, PAM_DELETE_CRED)); well(pam(end, pam, PAM_SUCCESS)); }
int main(int argc, char **argv) {
    if (argc < 3) return 125;
    int iso = !strcmp(argv[1], "iso"), session = !strcmp(argv[1], "session"), ends[2], status = 125;
    uid = getuid(); gid = getgid();
    for (int s = 1; s < 65; s++) if (s != SIGKILL && s != SIGSTOP && s != 32 && s != 33) must(sigaction(s, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL));
    must(prctl(PR_SET_DUMPABLE, 0)); umask(077); must(close_range(3, ~0U, 0));
    slurp("/proc/self/environ"); must(getpwuid(uid) ? 0 : -1);
    gid_t groups[64]; int count = 64; must(getgroups(64, groups)); must(getcwd(buffer, sizeof buffer) ? 0 : -1);
    getgrouplist(getpwuid(uid)->pw_name, gid, groups, &count);
    time_t now = time(NULL); localtime(&now);
    must(setresgid(0, 0, 0)); slurp("/etc/caplet/policy.toml"); must(setresuid(0, 0, 0));
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
    int log = must(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    must(connect(log, (struct sockaddr *)&(struct sockaddr_un){ AF_UNIX, "/dev/log" }, sizeof(struct sockaddr_un)));
    if (session) open_session();
    int record = must(open("/run/floor", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    must(flock(record, LOCK_SH)); must(send(log, "<85>floor: grant", 16, MSG_NOSIGNAL)); must(write(record, "grant", 5));
    pid_t first = 0, watcher = must(fork());
    if (!watcher) { close(ends[0]); guard(ends[1], record, log, iso, argv + 2, &first); }
    close(ends[1]); if (!session) { must(setresgid(gid, gid, gid)); must(setresuid(uid, uid, uid)); caps(0, 0); }
    must(recv(ends[0], &status, sizeof status, 0));
    if (session) close_session();
    return status;
}
