"""The table of system calls: which of them a jailed process may make. `seccomp` compiles its filter from it.

Numbers are Linux's own, x86_64 then aarch64 ("-" where there is no such call), as in the kernel's unistd headers.
"""

# What a process needs that computes, imports, starts threads and writes files in a folder of its own. What Landlock
# does not look at is not among it (chmod, chown, utime; truncate by name in its first versions): where there is no
# uid of its own, files of the same uid would be open to that. Nor is what changes or tells of the state that jails
# share, by which one could leave a message for another:
#   the page cache (fadvise64, mincore, cachestat, readahead), also what a fault or free memory says of it (getrusage,
#   sysinfo); locks on files that all may read (flock); how full a disk is (statfs); the kernel's count of inodes, of
#   which each pipe takes one (pipe); threads of others that wait at an address in a shared file (futex_waitv).
ALLOWED = """
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; preadv 295 69; pwritev 296 70;
close 3 57; close_range 436 436; fstat 5 80; newfstatat 262 79; stat 4 -;
lstat 6 -; statx 332 291; access 21 -; faccessat 269 48; faccessat2 439 439; creat 85 -; lseek 8 62; getdents 78 -;
getdents64 217 61; getcwd 79 17; chdir 80 49; fchdir 81 50; rmdir 84 -; unlink 87 -;
unlinkat 263 35; rename 82 -; renameat 264 38; renameat2 316 276; link 86 -; linkat 265 37; symlink 88 -;
symlinkat 266 36; readlink 89 -; readlinkat 267 78; ftruncate 77 46; fallocate 285 47; fsync 74 82;
fdatasync 75 83; sendfile 40 71; copy_file_range 326 285;
dup 32 23; dup2 33 -; dup3 292 24; poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72;
epoll_create 213 -; epoll_create1 291 20; epoll_ctl 233 21; epoll_wait 232 -; epoll_pwait 281 22;
epoll_pwait2 441 441; eventfd 284 -; eventfd2 290 19; timerfd_create 283 85; timerfd_settime 286 86;
timerfd_gettime 287 87; mprotect 10 226; munmap 11 215; mremap 25 216; brk 12 214; msync 26 227;
membarrier 324 283; pkey_alloc 330 289; pkey_free 331 290; pkey_mprotect 329 288; rt_sigaction 13 134;
rt_sigprocmask 14 135; rt_sigreturn 15 139; rt_sigpending 127 136; rt_sigtimedwait 128 137; rt_sigsuspend 130 133;
sigaltstack 131 132; pause 34 -; restart_syscall 219 128; alarm 37 -; getitimer 36 102; setitimer 38 103;
timer_settime 223 110; timer_gettime 224 108; timer_getoverrun 225 109; timer_delete 226 111;
getpid 39 172; gettid 186 178; getppid 110 173; getpgrp 111 -; getpgid 121 155; getsid 124 156; getuid 102 174;
geteuid 107 175; getgid 104 176; getegid 108 177; getresuid 118 148; getresgid 120 150; getgroups 115 158;
capget 125 90; uname 63 160; getrlimit 97 163; times 100 153; time 201 -;
gettimeofday 96 169; nanosleep 35 101;
set_robust_list 273 99; get_robust_list 274 100;
rseq 334 293; arch_prctl 158 -; sched_yield 24 124; sched_getaffinity 204 123; sched_getparam 143 121;
sched_getscheduler 145 120; sched_get_priority_max 146 125; sched_get_priority_min 147 126; getcpu 309 168;
getpriority 140 141; getrandom 318 278; exit 60 93; exit_group 231 94
"""

# Allowed with some arguments only: `seccomp` has a condition for each.
CONDITIONAL = """
open 2 -; openat 257 56; preadv2 327 286; pwritev2 328 287; mkdir 83 -; mkdirat 258 34; umask 95 166; mmap 9 222;
madvise 28 233; futex 202 98; ioctl 16 29; fcntl 72 25; prctl 157 167; prlimit64 302 261; clone 56 220; kill 62 129;
tkill 200 130; tgkill 234 131; timer_create 222 107; clock_gettime 228 113; clock_getres 229 114;
clock_nanosleep 230 115
"""

# Not there, for those who know another way.
MISSING = "clone3 435 435; openat2 437 437"

# Not supported, as on a file system without them: shutil and pathlib go on without.
UNSUPPORTED = """
setxattr 188 5; lsetxattr 189 6; fsetxattr 190 7; getxattr 191 8; lgetxattr 192 9; fgetxattr 193 10; listxattr 194 11;
llistxattr 195 12; flistxattr 196 13; removexattr 197 14; lremovexattr 198 15; fremovexattr 199 16
"""

# Nothing that homework does by mistake. Anything that stands nowhere here is refused with EPERM, sockets, fork and
# exec among it, so that honest code gets an exception that it can read.
DEADLY = """
ptrace 101 117; process_vm_readv 310 270; process_vm_writev 311 271; bpf 321 280; userfaultfd 323 282;
perf_event_open 298 241; mount 165 40; umount2 166 39; pivot_root 155 41; chroot 161 51; unshare 272 97;
setns 308 268; open_tree 428 428; move_mount 429 429; fsopen 430 430; fsconfig 431 431; fsmount 432 432;
fspick 433 433; mount_setattr 442 442; add_key 248 217; request_key 249 218; keyctl 250 219; io_uring_setup 425 425;
io_uring_enter 426 426; io_uring_register 427 427; kexec_load 246 104; kexec_file_load 320 294; init_module 175 105;
finit_module 313 273; delete_module 176 106; open_by_handle_at 304 265; name_to_handle_at 303 264; pidfd_open 434 434;
pidfd_getfd 438 438; pidfd_send_signal 424 424; process_madvise 440 440; quotactl 179 60; reboot 169 142;
swapon 167 224; swapoff 168 225; iopl 172 -; ioperm 173 -; modify_ldt 154 -; acct 163 89; settimeofday 164 170;
clock_settime 227 112; sethostname 170 161; setdomainname 171 162; syslog 103 116; kcmp 312 272
"""

# What `confine` itself calls by number.
OWN = """
pivot_root 155 41; seccomp 317 277; capset 126 91; keyctl 250 219; mount_setattr 442 442; close_range 436 436;
landlock_create_ruleset 444 444; landlock_add_rule 445 445; landlock_restrict_self 446 446
"""


def numbers(table: str, machine: str) -> dict[str, int]:
    """{name: number} of a table on x86_64 or aarch64."""
    column = {"x86_64": 1, "aarch64": 2}[machine]
    rows = (row.split() for row in table.split(";"))
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
