/* A PAM module for the tests: its first argument says how it behaves. Built without headers of Linux-PAM. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERR = 4, PERM_DENIED = 6, AUTH_ERR = 7, MAXTRIES = 11, CONV_ERR = 19 };
enum { USER = 2, TTY = 3, RHOST = 4, CONV = 5, RUSER = 8 };
enum { ECHO_OFF = 1, ECHO_ON = 2, ERROR_MSG = 3, TEXT_INFO = 4 };
struct message { int style; const char *text; };
struct response { char *text; int code; };
struct conv { int (*call)(int, const struct message **, struct response **, void *); void *data; };
int pam_get_item(void *, int, const void **);
int pam_set_item(void *, int, const void *);
int pam_putenv(void *, const char *);

static const char *item(void *pam, int kind)
{
    const void *value = 0;
    pam_get_item(pam, kind, &value);
    return value ? value : "(none)";
}

/* Several messages in one call, as modules may. */
static int say(void *pam, int count, const struct message *messages, struct response **answers)
{
    const void *value = 0;
    const struct message *list[64];
    if (pam_get_item(pam, CONV, &value) || !value)
        return CONV_ERR;
    for (int n = 0; n < count; n++)
        list[n] = messages + n;
    const struct conv *conv = value;
    return conv->call(count, list, answers, conv->data);
}

static void note(const char *what)
{
    FILE *file = fopen("/root/pam-notes", "a");
    if (file) {
        fprintf(file, "%s\n", what);
        fclose(file);
    }
}

static void describe(void *pam)
{
    char line[1024], fd[256] = "", cwd[256] = "";
    if (readlink("/proc/self/fd/0", fd, sizeof fd - 1) < 0)
        strcpy(fd, "?");
    snprintf(line, sizeof line, "tty=%s user=%s ruser=%s rhost=%s real=%d effective=%d leader=%d fd0=%s cwd=%s environ=%d",
             item(pam, TTY), item(pam, USER), item(pam, RUSER), item(pam, RHOST), getuid(), geteuid(),
             getsid(0) == getpid(), fd, getcwd(cwd, sizeof cwd) ? cwd : "?", (int)(getenv("HOME") != 0));
    note(line);
}

static void *idle(void *unused)
{
    for (;;)
        sleep(1);
    return unused;
}

static int two(void *pam)
{
    struct message ask[] = { { TEXT_INFO, "Two factors\x1b[31m are asked" }, { ECHO_OFF, "First factor: " }, { ECHO_ON, "Second factor: " } };
    struct response *answers = 0;
    if (say(pam, 3, ask, &answers) || !answers || !answers[1].text || !answers[2].text)
        return CONV_ERR;
    return strcmp(answers[1].text, "one") || strcmp(answers[2].text, "two") ? AUTH_ERR : SUCCESS;
}

int pam_sm_authenticate(void *pam, int flags, int argc, const char **argv)
{
    const char *how = argc ? argv[0] : "";
    pthread_t thread;
    if (!strcmp(how, "two"))
        return two(pam);
    if (!strcmp(how, "user"))
        return pam_set_item(pam, USER, argc > 1 ? argv[1] : "root");
    if (!strcmp(how, "thread"))
        return pthread_create(&thread, 0, idle, 0) ? SYSTEM_ERR : SUCCESS;
    if (!strcmp(how, "crash"))
        *(volatile int *)0 = 1;
    if (!strcmp(how, "hang"))
        idle(0);
    if (!strcmp(how, "maxtries")) {
        struct message ask[] = { { ECHO_OFF, "Password: " } };
        struct response *answers = 0;
        return say(pam, 1, ask, &answers) ? CONV_ERR : MAXTRIES;
    }
    if (!strcmp(how, "slow")) {
        struct message ask[] = { { ECHO_OFF, "Password: " } };
        struct response *answers = 0;
        int asked = say(pam, 1, ask, &answers);
        sleep(3);
        return asked ? asked : AUTH_ERR;
    }
    if (!strcmp(how, "many")) {
        struct message ask[] = { { ECHO_OFF, "Password: " } };
        struct response *answers = 0;
        return say(pam, 33, ask, &answers) == CONV_ERR ? SUCCESS : AUTH_ERR;
    }
    if (!strcmp(how, "describe"))
        describe(pam);
    return SUCCESS;
}

int pam_sm_setcred(void *pam, int flags, int argc, const char **argv)
{
    note(flags & 2 ? "establish" : "delete");
    return SUCCESS;
}

int pam_sm_acct_mgmt(void *pam, int flags, int argc, const char **argv)
{
    if (argc && !strcmp(argv[0], "describe"))
        describe(pam);
    return SUCCESS;
}

int pam_sm_open_session(void *pam, int flags, int argc, const char **argv)
{
    const char *how = argc ? argv[0] : "";
    note("open");
    if (!strcmp(how, "refuse"))
        return PERM_DENIED;
    if (!strcmp(how, "surround")) {
        struct rlimit files = { 333, 444 };
        setrlimit(RLIMIT_NOFILE, &files);
        umask(027);
        setpriority(PRIO_PROCESS, 0, 7);
        pam_putenv(pam, "LAB_SESSION=yes");
        pam_putenv(pam, "LANG=from_pam");
        pam_putenv(pam, "LD_PRELOAD=/tmp/evil.so");
        pam_putenv(pam, "CAPLET_CAPS=ALL");
    }
    return SUCCESS;
}

int pam_sm_close_session(void *pam, int flags, int argc, const char **argv)
{
    if (argc && !strcmp(argv[0], "hang-at-close"))
        idle(0);
    note("close");
    return SUCCESS;
}
