#include "textflag.h"

// What init_linux_amd64.s does, and says, for this architecture. No constant may lie in a literal pool: that would be
// behind the program's end.

#define SYS_ioctl 29
#define SYS_write 64
#define SYS_exit_group 94
#define SYS_kill 129
#define SYS_rt_sigaction 134
#define SYS_rt_sigprocmask 135
#define SYS_rt_sigtimedwait 137
#define SYS_setpgid 154
#define SYS_getpid 172
#define SYS_clone 220
#define SYS_execve 221
#define SYS_wait4 260

#define SIGCHLD 17
#define SIGTTIN 21
#define SIGTTOU 22
#define TIOCSPGRP 0x5410
#define ENOENT 2
#define EACCES 13
#define ENOTDIR 20

// Registers: R19 argv of the program, R20 environment, R21 pid of the program, R22 stack frame:
//	0 mask, 8 old mask, 16 struct sigaction (32 bytes), 48 status or pid, 64 default PATH (16), 80 path buffer (8192)
TEXT ·initProgram(SB),NOSPLIT|NOFRAME,$0-0
	MOVD	RSP, R9
	MOVD	0(R9), R10       // argc
	ADD	$16, R9, R19     // &argv[1]
	ADD	R10<<3, R19, R20
	SUB	$4096, R9, R9
	SUB	$4096, R9, R9
	SUB	$208, R9, R9
	AND	$~15, R9, R9
	MOVD	R9, R22
	MOVD	R9, RSP
	CMP	$2, R10
	BLT	usage
	MOVD	0(R19), R11
	MOVBU	0(R11), R12
	CMP	$0x2d, R12
	BNE	named
	MOVBU	1(R11), R12
	CMP	$0x2d, R12
	BNE	named
	MOVBU	2(R11), R12
	CBNZ	R12, named
	ADD	$8, R19, R19
	MOVD	0(R19), R11
	CBZ	R11, usage

named:
	// All signals but those that a fault of the program itself raises: 0xffffffffbffffb07.
	MOVD	$0xfb07, R9
	MOVK	$(0xbfff<<16), R9
	MOVK	$(0xffff<<32), R9
	MOVK	$(0xffff<<48), R9
	MOVD	R9, 0(R22)
	MOVD	$0, R0           // SIG_BLOCK
	ADD	$0, R22, R1
	ADD	$8, R22, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigprocmask, R8
	SVC

	// Who takes the terminal from its own background is stopped, unless it ignores that.
	MOVD	$1, R9           // SIG_IGN
	MOVD	R9, 16(R22)
	MOVD	ZR, 24(R22)
	MOVD	ZR, 32(R22)
	MOVD	ZR, 40(R22)
	MOVD	$SIGTTIN, R0
	ADD	$16, R22, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigaction, R8
	SVC
	MOVD	$SIGTTOU, R0
	SVC

	MOVD	$SIGCHLD, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$SYS_clone, R8
	SVC
	CBZ	R0, program
	TBNZ	$63, R0, usage
	MOVD	R0, R21

await:
	ADD	$0, R22, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigtimedwait, R8
	SVC
	CMP	$0, R0
	BLE	await
	CMP	$SIGCHLD, R0
	BEQ	reap
	MOVD	R0, R1
	MOVD	R21, R0
	MOVD	$SYS_kill, R8
	SVC
	B	await

reap:
	MOVD	$-1, R0
	ADD	$48, R22, R1
	MOVD	$1, R2           // WNOHANG
	MOVD	$0, R3
	MOVD	$SYS_wait4, R8
	SVC
	CMP	$0, R0
	BLE	await
	CMP	R21, R0
	BNE	reap
	MOVWU	48(R22), R9
	AND	$0x7f, R9, R0
	CBZ	R0, exited
	ADD	$128, R0, R0
	B	exit

exited:
	LSR	$8, R9, R9
	AND	$0xff, R9, R0

exit:
	MOVD	$SYS_exit_group, R8
	SVC
	UNDEF

usage:
	MOVD	$1, R0
	B	exit

program:
	// A process group of its own, in the foreground of the terminal if there is one.
	MOVD	$0, R0
	MOVD	$0, R1
	MOVD	$SYS_setpgid, R8
	SVC
	MOVD	$SYS_getpid, R8
	SVC
	MOVW	R0, 48(R22)
	MOVD	$0, R0
	MOVD	$TIOCSPGRP, R1
	ADD	$48, R22, R2
	MOVD	$SYS_ioctl, R8
	SVC
	MOVD	ZR, 16(R22)      // SIG_DFL
	MOVD	$SIGTTIN, R0
	ADD	$16, R22, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigaction, R8
	SVC
	MOVD	$SIGTTOU, R0
	SVC
	MOVD	$2, R0           // SIG_SETMASK
	ADD	$8, R22, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigprocmask, R8
	SVC

	MOVD	$ENOENT, R21     // from here on: the error that counts
	MOVD	0(R19), R9
slash:
	MOVBU	0(R9), R10
	CBZ	R10, search
	ADD	$1, R9, R9
	CMP	$0x2f, R10
	BNE	slash
	MOVD	0(R19), R0
	MOVD	R19, R1
	MOVD	R20, R2
	MOVD	$SYS_execve, R8
	SVC
	NEG	R0, R21
	B	failed

search:
	// "/usr/bin:/bin" if the environment has no PATH.
	MOVD	$0x752f, R9
	MOVK	$(0x7273<<16), R9
	MOVK	$(0x622f<<32), R9
	MOVK	$(0x6e69<<48), R9
	MOVD	R9, 64(R22)
	MOVD	$0x2f3a, R9
	MOVK	$(0x6962<<16), R9
	MOVK	$(0x006e<<32), R9
	MOVD	R9, 72(R22)
	ADD	$64, R22, R12
	MOVD	R20, R9
	MOVD	$0x4150, R13     // "PATH"
	MOVK	$(0x4854<<16), R13
variable:
	MOVD	0(R9), R10
	CBZ	R10, directory
	ADD	$8, R9, R9
	MOVWU	0(R10), R11
	CMP	R13, R11
	BNE	variable
	MOVBU	4(R10), R11
	CMP	$0x3d, R11
	BNE	variable
	ADD	$5, R10, R12

directory:
	// R12 is at the next directory of the list. Directories that are too long, or empty, are passed over.
	ADD	$80, R22, R9
	ADD	$4096, R9, R11
copydir:
	MOVBU	0(R12), R10
	CBZ	R10, copied
	CMP	$0x3a, R10
	BEQ	copied
	CMP	R11, R9
	BEQ	toolong
	MOVB	R10, 0(R9)
	ADD	$1, R9, R9
toolong:
	ADD	$1, R12, R12
	B	copydir
copied:
	CMP	R11, R9
	BEQ	nextdir
	ADD	$80, R22, R10
	CMP	R10, R9
	BEQ	nextdir
	MOVD	$0x2f, R10
	MOVB	R10, 0(R9)
	ADD	$1, R9, R9
	MOVD	0(R19), R13
	ADD	$4094, R11, R11  // the buffer's end
copyname:
	MOVBU	0(R13), R10
	MOVB	R10, 0(R9)
	CBZ	R10, try
	CMP	R11, R9
	BEQ	nextdir
	ADD	$1, R9, R9
	ADD	$1, R13, R13
	B	copyname
try:
	ADD	$80, R22, R0
	MOVD	R19, R1
	MOVD	R20, R2
	MOVD	$SYS_execve, R8
	SVC
	NEG	R0, R0
	CMP	$ENOENT, R0
	BEQ	nextdir
	CMP	$ENOTDIR, R0
	BEQ	nextdir
	MOVD	R0, R21
	CMP	$EACCES, R0
	BNE	failed
nextdir:
	MOVBU	0(R12), R10
	CBZ	R10, failed
	ADD	$1, R12, R12
	B	directory

failed:
	// "NAME: cannot run it\n" is all that fits a program without data; the status says the rest.
	MOVD	0(R19), R1
	MOVD	R1, R9
length:
	MOVBU	0(R9), R10
	CBZ	R10, tell
	ADD	$1, R9, R9
	B	length
tell:
	SUB	R1, R9, R2
	MOVD	$2, R0
	MOVD	$SYS_write, R8
	SVC
	// ": cannot", " run it\n"
	MOVD	$0x203a, R9
	MOVK	$(0x6163<<16), R9
	MOVK	$(0x6e6e<<32), R9
	MOVK	$(0x746f<<48), R9
	MOVD	R9, 64(R22)
	MOVD	$0x7220, R9
	MOVK	$(0x6e75<<16), R9
	MOVK	$(0x6920<<32), R9
	MOVK	$(0x0a74<<48), R9
	MOVD	R9, 72(R22)
	MOVD	$2, R0
	ADD	$64, R22, R1
	MOVD	$16, R2
	SVC
	CMP	$ENOENT, R21
	BEQ	unknown
	MOVD	$126, R0
	B	exit
unknown:
	MOVD	$127, R0
	B	exit

	// The end, as init.go finds it: "kist-init-end.\n" and a zero.
	WORD	$0x7473696b
	WORD	$0x696e692d
	WORD	$0x6e652d74
	WORD	$0x000a2e64
	RET

// func initAddress() uintptr
TEXT ·initAddress(SB),NOSPLIT,$0-8
	MOVD	$·initProgram(SB), R0
	MOVD	R0, ret+0(FP)
	RET
