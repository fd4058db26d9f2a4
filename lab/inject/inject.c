/* Runs a setuid program as a user under ptrace(2), as root, and interferes at one system call of one process.
 *
 * inject UID GID GROUP,GROUP... list FILE -- PROGRAM ARG...          writes each call: PROCESS NUMBER CALL RESULT [PATH]
 * inject UID GID GROUP,GROUP... fail PROCESS NUMBER CALL ERRNO -- ...  that call fails, and is not made
 * inject UID GID GROUP,GROUP... kill PROCESS NUMBER CALL 0 -- ...      the process is killed before that call
 * inject UID GID GROUP,GROUP... stop PROCESS NUMBER CALL 0 HOOK -- ... stops it before that call, traces it no more,
 *                                                                    runs HOOK with PID set, and lets it go on
 *
 * PROCESS: 0 is the program, 0.1 its first child, 0.1.2 the second child of that. NUMBER: how manieth CALL of its own.
 * It starts with the worst scheduling that a user can give himself. A process that execs anything else is left alone from there on. Exit: the program's own, 128+N for a signal N;
 * A close(2) that fails has closed. fail, kill and stop write "inject: missed" to descriptor 9 where there was no such call. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/ptrace.h>

enum { PLACES = 256, CALLS = 600 };
struct proc {
    pid_t pid, parent;
    char name[64];
    int made[CALLS];
    int born, execs, failing;
    long call;
    char path[256];
} procs[PLACES];

static pid_t first;
static FILE *list;
static const char *mode, *want, *hook;
static long number, call_wanted;
static int error, hit;
static pid_t stopped, hooked;

static void die(const char *what) {
    fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
    exit(120);
}

static struct proc *of(pid_t pid) {
    for (int i = 0; i < PLACES; i++)
        if (procs[i].pid == pid) return &procs[i];
    return 0;
}

static struct proc *new_proc(pid_t pid, const char *name) {
    struct proc *p = of(0);
    if (!p) { errno = ENOSPC; die("processes"); }
    memset(p, 0, sizeof *p);
    p->pid = pid;
    snprintf(p->name, sizeof p->name, "%s", name);
    return p;
}

static void text_of(pid_t pid, unsigned long long from, char *to, size_t size) {
    struct iovec here = {to, size - 1}, there = {(void *)(size_t)from, size - 1};
    ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (n < 0) { here.iov_len = there.iov_len = 1; n = 0; }
    to[n] = 0;
    for (char *c = to; *c; c++) if (*c <= ' ' || *c > '~') *c = '?';
}

/* Before the call: another number, so that the kernel makes none. */
static void skip_call(pid_t pid) {
#if defined(__x86_64__)
    struct user_regs_struct regs;
    struct iovec v = {&regs, sizeof regs};
    if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &v)) die("getregset");
    regs.orig_rax = -1;
    if (ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &v)) die("setregset");
#elif defined(__aarch64__)
    int none = -1;
    struct iovec v = {&none, sizeof none};
    if (ptrace(PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &v)) die("setregset");
#else
#error "which register holds the result of a system call here?"
#endif
}

/* After it: what it is said to have returned. */
static void set_result(pid_t pid, long result) {
    struct user_regs_struct regs;
    struct iovec v = {&regs, sizeof regs};
    if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &v)) die("getregset");
#if defined(__x86_64__)
    regs.rax = result;
#else
    regs.regs[0] = result;
#endif
    if (ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &v)) die("setregset");
}

/* With a stop at every call only where those are counted: each costs two changes of the processor's mind. */
static void go_on(struct proc *p, int signal) {
    int calls = list || (!hit && !strcmp(p->name, want)) || p->failing || (p->pid == first && !p->execs);
    ptrace(calls ? PTRACE_SYSCALL : PTRACE_CONT, p->pid, 0, signal);
}

static pid_t parent_of(pid_t pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    char *end = strrchr(text, ')');
    return end ? atoi(end + 3) : 0;
}

/* A child whose parent was killed before it could tell of it has no name, and is not left waiting for one. */
static void release_orphans(void) {
    for (int i = 0; i < PLACES; i++)
        if (procs[i].pid && procs[i].name[0] == '?' && !of(procs[i].parent)) {
            strcpy(procs[i].name, "orphan");
            go_on(&procs[i], 0);
        }
}

/* Leaves it alone, stopped, while the hook does its worst. */
static pid_t stop_here(struct proc *chosen) {
    stopped = chosen->pid;
    if (ptrace(PTRACE_DETACH, stopped, 0, SIGSTOP)) die("detach");
    chosen->pid = 0;
    /* It stops when it is scheduled next: going on must come after that. */
    for (int i = 0; i < 2000; i++) {
        char path[64], text[256], state = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", stopped);
        FILE *f = fopen(path, "re");
        size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
        if (f) fclose(f);
        text[n] = 0;
        char *end = strrchr(text, ')');
        if (end) state = end[2];
        if (!f || state == 'T' || state == 'Z') break;
        usleep(1000);
    }
    pid_t child = fork();
    if (child < 0) die("fork");
    if (!child) {
        char text[16];
        snprintf(text, sizeof text, "%d", stopped);
        setenv("PID", text, 1);
        close(9);
        execl("/bin/sh", "sh", "-c", hook, (char *)0);
        _exit(127);
    }
    return child;
}

/* As a caller may have himself scheduled, who would hold the helper up: none of it may be lost on the way to the command. */
static void schedule_badly(void) {
    int worst_io = 2 << 13 | 7; /* best effort, last */
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (oom < 0 || write(oom, "100", 3) != 3 || setpriority(PRIO_PROCESS, 0, 5) || prctl(PR_SET_TIMERSLACK, 70000) ||
        syscall(SYS_ioprio_set, 1, 0, worst_io) || sched_setaffinity(0, sizeof one, &one))
        _exit(124);
    close(oom);
}

int main(int argc, char **argv) {
    if (argc < 7) { errno = EINVAL; die("usage"); }
    uid_t uid = strtoul(argv[1], 0, 10);
    gid_t gid = strtoul(argv[2], 0, 10), groups[64];
    int count = 0;
    for (char *g = strtok(argv[3], ","); g && count < 64; g = strtok(0, ",")) groups[count++] = strtoul(g, 0, 10);
    mode = argv[4];
    char **words = argv + 5;
    if (!strcmp(mode, "list")) {
        list = fopen(words[0], "we");
        if (!list) die(words[0]);
    } else {
        want = words[0];
        number = strtol(words[1], 0, 10);
        call_wanted = strtol(words[2], 0, 10);
        error = atoi(words[3]);
        hook = words[4];
    }
    while (*words && strcmp(*words, "--")) words++;
    if (!*words++) { errno = EINVAL; die("no --"); }

    int gate[2];
    if (pipe2(gate, O_CLOEXEC)) die("pipe");
    first = fork();
    if (!first) {
        char byte;
        if (read(gate[0], &byte, 1) != 1) _exit(121);
        close(9); /* the caller's, for "missed" */
        schedule_badly();
        if (setgroups(count, groups) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) _exit(122);
        execv(words[0], words);
        _exit(123);
    }
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                   PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SEIZE, first, 0, options)) die("seize");
    new_proc(first, "0");
    if (write(gate[1], "x", 1) != 1) die("gate");
    if (ptrace(PTRACE_INTERRUPT, first, 0, 0)) die("interrupt");

    int end = -1, status;
    for (;;) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) { if (errno == EINTR) continue; break; }
        if (pid == hooked) {
            kill(stopped, SIGCONT);
            kill(first, SIGCONT); /* it has stopped with its command, for the shell that we are */
            hooked = 0;
            continue;
        }
        struct proc *p = of(pid);
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == first) end = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            if (p) p->pid = 0;
            release_orphans();
            continue;
        }
        if (!p) {
            /* A child that stops before its parent's event is read: its name is known then. */
            p = new_proc(pid, "?");
            p->parent = parent_of(pid);
            release_orphans();
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16, pass = 0;
        if (p->name[0] == '?') continue;
        if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
            unsigned long child;
            if (!ptrace(PTRACE_GETEVENTMSG, pid, 0, &child)) {
                char name[80];
                snprintf(name, sizeof name, "%s.%d", p->name, ++p->born);
                struct proc *c = of(child);
                if (c) {
                    snprintf(c->name, sizeof c->name, "%.63s", name);
                    go_on(c, 0); /* it waits already */
                } else {
                    new_proc(child, name);
                }
            }
        } else if (event == PTRACE_EVENT_EXEC) {
            /* The program itself; whatever is executed later is not ours to look at. */
            if (pid == first && p->execs++ == 0) {
                memset(p->made, 0, sizeof p->made);
                p->call = -1;
            } else {
                if (list && p->call >= 0) fprintf(list, "%s %d %ld 0 %s\n", p->name, p->made[p->call], p->call, p->path);
                p->pid = 0;
                ptrace(PTRACE_DETACH, pid, 0, 0);
                continue;
            }
        } else if (event == PTRACE_EVENT_STOP) {
            if (signal != SIGTRAP) { /* a group stop: stay stopped */
                ptrace(PTRACE_LISTEN, pid, 0, 0);
                if (pid == first && stopped && !hooked) kill(first, SIGCONT);
                continue;
            }
        } else if (signal == (SIGTRAP | 0x80)) {
            struct ptrace_syscall_info info;
            if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) < 0) continue;
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY && p->execs + (pid != first) > 0) {
                if (info.entry.nr >= CALLS) { errno = ERANGE; die("call"); }
                p->call = info.entry.nr;
                p->made[p->call]++;
                p->path[0] = 0;
                if (list && (p->call == SYS_openat || p->call == SYS_openat2)) text_of(pid, info.entry.args[1], p->path, sizeof p->path);
                if (want && !hit && p->call == call_wanted && p->made[p->call] == number && !strcmp(p->name, want)) {
                    hit = 1;
                    if (!strcmp(mode, "fail")) {
                        p->failing = 1;
                        if (p->call != SYS_close) skip_call(pid); /* which closes, whatever it says */
                    } else if (!strcmp(mode, "kill")) {
                        kill(pid, SIGKILL);
                        continue;
                    } else {
                        hooked = stop_here(p);
                        continue;
                    }
                }
                if (list && (p->call == SYS_exit_group || p->call == SYS_exit))
                    fprintf(list, "%s %d %ld 0 \n", p->name, p->made[p->call], p->call);
            } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && p->call >= 0) {
                if (p->failing) {
                    set_result(pid, -(long)error);
                    p->failing = 0;
                }
                if (list) fprintf(list, "%s %d %ld %lld %s\n", p->name, p->made[p->call], p->call, (long long)info.exit.rval, p->path);
                p->call = -1;
            }
        } else {
            pass = signal;
        }
        go_on(p, pass);
    }
    if (list) fclose(list);
    if (want && !hit && write(9, "inject: missed\n", 15) != 15) {}
    return end;
}
