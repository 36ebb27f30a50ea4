#include "textflag.h"

// The init program of `run --init`: the first process of a container, which starts the real one, passes signals on to
// it, and reaps whatever is left to it. Its machine code is copied out of this binary behind an ELF header (init.go), so
// it refers to nothing outside of itself.
//
// Usage: init [--] PROGRAM [ARGUMENT...]. It ends as PROGRAM ends: with its status, or 128 and the signal's number.

#define SYS_write 1
#define SYS_rt_sigaction 13
#define SYS_rt_sigprocmask 14
#define SYS_ioctl 16
#define SYS_getpid 39
#define SYS_fork 57
#define SYS_execve 59
#define SYS_wait4 61
#define SYS_kill 62
#define SYS_setpgid 109
#define SYS_rt_sigtimedwait 128
#define SYS_exit_group 231

#define SIGCHLD 17
#define SIGTTIN 21
#define SIGTTOU 22
#define TIOCSPGRP 0x5410
#define ENOENT 2
#define EACCES 13
#define ENOTDIR 20

// All signals but those that a fault of the program itself raises: ILL 4, TRAP 5, ABRT 6, BUS 7, FPE 8, SEGV 11, SYS 31.
#define FORWARDED 0xffffffffbffffb07

// Registers: R12 argv of the program, R13 environment, R14 pid of the program, R15 stack frame:
//	0 mask, 8 old mask, 16 struct sigaction (32 bytes), 48 status or pid, 64 default PATH (16), 80 path buffer (8192)
TEXT ·initProgram(SB),NOSPLIT|NOFRAME,$0-0
	MOVQ	SP, BX
	MOVQ	0(BX), AX        // argc
	LEAQ	16(BX), R12      // &argv[1]
	LEAQ	16(BX)(AX*8), R13
	SUBQ	$8400, BX
	ANDQ	$~15, BX
	MOVQ	BX, R15
	MOVQ	BX, SP
	CMPQ	AX, $2
	JLT	usage
	MOVQ	(R12), DX
	CMPB	0(DX), $0x2d
	JNE	named
	CMPB	1(DX), $0x2d
	JNE	named
	CMPB	2(DX), $0
	JNE	named
	ADDQ	$8, R12
	CMPQ	(R12), $0
	JEQ	usage

named:
	MOVQ	$FORWARDED, AX
	MOVQ	AX, 0(R15)
	XORL	DI, DI           // SIG_BLOCK
	LEAQ	0(R15), SI
	LEAQ	8(R15), DX
	MOVQ	$8, R10
	MOVQ	$SYS_rt_sigprocmask, AX
	SYSCALL

	// Who takes the terminal from its own background is stopped, unless it ignores that.
	MOVQ	$1, BX           // SIG_IGN
	MOVQ	BX, 16(R15)
	XORL	BX, BX
	MOVQ	BX, 24(R15)
	MOVQ	BX, 32(R15)
	MOVQ	BX, 40(R15)
	MOVQ	$SIGTTIN, DI
	LEAQ	16(R15), SI
	XORL	DX, DX
	MOVQ	$8, R10
	MOVQ	$SYS_rt_sigaction, AX
	SYSCALL
	MOVQ	$SIGTTOU, DI
	MOVQ	$SYS_rt_sigaction, AX
	SYSCALL

	MOVQ	$SYS_fork, AX
	SYSCALL
	TESTQ	AX, AX
	JZ	program
	JLT	usage
	MOVQ	AX, R14

await:
	LEAQ	0(R15), DI
	XORL	SI, SI
	XORL	DX, DX
	MOVQ	$8, R10
	MOVQ	$SYS_rt_sigtimedwait, AX
	SYSCALL
	TESTQ	AX, AX
	JLE	await
	CMPQ	AX, $SIGCHLD
	JEQ	reap
	MOVQ	R14, DI
	MOVQ	AX, SI
	MOVQ	$SYS_kill, AX
	SYSCALL
	JMP	await

reap:
	MOVQ	$-1, DI
	LEAQ	48(R15), SI
	MOVQ	$1, DX           // WNOHANG
	XORL	R10, R10
	MOVQ	$SYS_wait4, AX
	SYSCALL
	TESTQ	AX, AX
	JLE	await
	CMPQ	AX, R14
	JNE	reap
	MOVL	48(R15), DI
	MOVL	DI, AX
	ANDL	$0x7f, AX
	JZ	exited
	ADDL	$128, AX
	MOVL	AX, DI
	JMP	exit

exited:
	SHRL	$8, DI
	ANDL	$0xff, DI

exit:
	MOVQ	$SYS_exit_group, AX
	SYSCALL
	INT	$3

usage:
	MOVQ	$1, DI
	JMP	exit

program:
	// A process group of its own, in the foreground of the terminal if there is one.
	XORL	DI, DI
	XORL	SI, SI
	MOVQ	$SYS_setpgid, AX
	SYSCALL
	MOVQ	$SYS_getpid, AX
	SYSCALL
	MOVL	AX, 48(R15)
	XORL	DI, DI
	MOVQ	$TIOCSPGRP, SI
	LEAQ	48(R15), DX
	MOVQ	$SYS_ioctl, AX
	SYSCALL
	XORL	BX, BX
	MOVQ	BX, 16(R15)      // SIG_DFL
	MOVQ	$SIGTTIN, DI
	LEAQ	16(R15), SI
	XORL	DX, DX
	MOVQ	$8, R10
	MOVQ	$SYS_rt_sigaction, AX
	SYSCALL
	MOVQ	$SIGTTOU, DI
	MOVQ	$SYS_rt_sigaction, AX
	SYSCALL
	MOVQ	$2, DI           // SIG_SETMASK
	LEAQ	8(R15), SI
	XORL	DX, DX
	MOVQ	$8, R10
	MOVQ	$SYS_rt_sigprocmask, AX
	SYSCALL

	MOVQ	$ENOENT, R14     // from here on: the error that counts
	MOVQ	(R12), BX
slash:
	MOVBLZX	0(BX), AX
	TESTL	AX, AX
	JZ	search
	INCQ	BX
	CMPL	AX, $0x2f
	JNE	slash
	MOVQ	(R12), DI
	MOVQ	R12, SI
	MOVQ	R13, DX
	MOVQ	$SYS_execve, AX
	SYSCALL
	NEGQ	AX
	MOVQ	AX, R14
	JMP	failed

search:
	// "/usr/bin:/bin" if the environment has no PATH.
	MOVQ	$0x6e69622f7273752f, AX
	MOVQ	AX, 64(R15)
	MOVQ	$0x0000006e69622f3a, AX
	MOVQ	AX, 72(R15)
	LEAQ	64(R15), R8
	MOVQ	R13, BX
variable:
	MOVQ	(BX), AX
	TESTQ	AX, AX
	JZ	directory
	ADDQ	$8, BX
	CMPL	0(AX), $0x48544150 // "PATH"
	JNE	variable
	CMPB	4(AX), $0x3d
	JNE	variable
	LEAQ	5(AX), R8

directory:
	// R8 is at the next directory of the list. Directories that are too long, or empty, are passed over.
	LEAQ	80(R15), DI
	LEAQ	4176(R15), R9
copydir:
	MOVBLZX	0(R8), AX
	TESTL	AX, AX
	JZ	copied
	CMPL	AX, $0x3a
	JEQ	copied
	CMPQ	DI, R9
	JEQ	toolong
	MOVB	AX, 0(DI)
	INCQ	DI
toolong:
	INCQ	R8
	JMP	copydir
copied:
	CMPQ	DI, R9
	JEQ	nextdir
	LEAQ	80(R15), AX
	CMPQ	DI, AX
	JEQ	nextdir
	MOVB	$0x2f, 0(DI)
	INCQ	DI
	MOVQ	(R12), SI
	LEAQ	8270(R15), R9
copyname:
	MOVBLZX	0(SI), AX
	MOVB	AX, 0(DI)
	TESTL	AX, AX
	JZ	try
	CMPQ	DI, R9
	JEQ	nextdir
	INCQ	DI
	INCQ	SI
	JMP	copyname
try:
	LEAQ	80(R15), DI
	MOVQ	R12, SI
	MOVQ	R13, DX
	MOVQ	$SYS_execve, AX
	SYSCALL
	NEGQ	AX
	CMPQ	AX, $ENOENT
	JEQ	nextdir
	CMPQ	AX, $ENOTDIR
	JEQ	nextdir
	MOVQ	AX, R14
	CMPQ	AX, $EACCES
	JNE	failed
nextdir:
	CMPB	0(R8), $0
	JEQ	failed
	INCQ	R8
	JMP	directory

failed:
	// "NAME: no run\n" is all that fits a program without data; the status says the rest.
	MOVQ	(R12), SI
	MOVQ	SI, BX
length:
	CMPB	0(BX), $0
	JEQ	tell
	INCQ	BX
	JMP	length
tell:
	MOVQ	BX, DX
	SUBQ	SI, DX
	MOVQ	$2, DI
	MOVQ	$SYS_write, AX
	SYSCALL
	// ": cannot", " run it\n"
	MOVQ	$0x746f6e6e6163203a, AX
	MOVQ	AX, 64(R15)
	MOVQ	$0x0a7469206e757220, AX
	MOVQ	AX, 72(R15)
	MOVQ	$2, DI
	LEAQ	64(R15), SI
	MOVQ	$16, DX
	MOVQ	$SYS_write, AX
	SYSCALL
	MOVQ	$127, DI
	CMPQ	R14, $ENOENT
	JEQ	exit
	MOVQ	$126, DI
	JMP	exit

	// The end, as init.go finds it.
	BYTE	$0x6b; BYTE $0x69; BYTE $0x73; BYTE $0x74
	BYTE	$0x2d; BYTE $0x69; BYTE $0x6e; BYTE $0x69
	BYTE	$0x74; BYTE $0x2d; BYTE $0x65; BYTE $0x6e
	BYTE	$0x64; BYTE $0x2e; BYTE $0x0a; BYTE $0x00
	RET

// func initAddress() uintptr
TEXT ·initAddress(SB),NOSPLIT,$0-8
	LEAQ	·initProgram(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
