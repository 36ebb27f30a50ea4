//go:build !race

#include "textflag.h"

#define SYS_exit_group 231
#define SYS_rt_sigprocmask 14
#define SYS_clone3 435
#define SIG_SETMASK 2
#define CLONE_ARGS_SIZE 88

// func vfork(mem, ops uintptr) (pid int)
//
// mem is the head of a program's memory (program.go), ops its child section (image.go). The parent comes back from
// clone3 when the child has ended or has gone on to another program by execve. The child never comes back: it runs on
// the same memory, touches no stack and nothing of Go's, and keeps all its state in registers:
//
//	R13 mem   R15 ops   R12 the current operation
TEXT ·vfork(SB),NOSPLIT,$0-24
	CALL	runtime·entersyscall(SB)
	MOVQ	mem+0(FP), R13
	MOVQ	ops+8(FP), R15

	// No signal may be handled in the child before its handlers are cleared.
	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$SIG_SETMASK, DI
	LEAQ	24(R13), SI
	LEAQ	32(R13), DX
	MOVQ	$8, R10
	SYSCALL

	MOVQ	$SYS_clone3, AX
	LEAQ	40(R13), DI
	MOVQ	$CLONE_ARGS_SIZE, SI
	SYSCALL
	TESTQ	AX, AX
	JZ	child

	MOVQ	AX, pid+16(FP)
	MOVQ	$SYS_rt_sigprocmask, AX
	MOVQ	$SIG_SETMASK, DI
	LEAQ	32(R13), SI
	MOVQ	$0, DX
	MOVQ	$8, R10
	SYSCALL
	CALL	runtime·exitsyscall(SB)
	RET

child:
	MOVQ	R15, R12

step:
	MOVLQSX	0(R12), AX
	MOVL	4(R12), BX
	MOVQ	16(R12), DI
	MOVQ	24(R12), SI
	MOVQ	32(R12), DX
	MOVQ	40(R12), R10
	MOVQ	48(R12), R8
	MOVQ	56(R12), R9
	TESTL	BX, BX
	JZ	loaded
	BTL	$0, BX
	JCC	load1
	MOVQ	(DI), DI
load1:
	BTL	$1, BX
	JCC	load2
	MOVQ	(SI), SI
load2:
	BTL	$2, BX
	JCC	load3
	MOVQ	(DX), DX
load3:
	BTL	$3, BX
	JCC	load4
	MOVQ	(R10), R10
load4:
	BTL	$4, BX
	JCC	load5
	MOVQ	(R8), R8
load5:
	BTL	$5, BX
	JCC	loaded
	MOVQ	(R9), R9

loaded:
	TESTQ	AX, AX
	JLT	pseudo
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	MOVQ	8(R12), BX
	TESTQ	BX, BX
	JZ	next
	MOVQ	AX, (BX)

next:
	ADDQ	$96, R12
	JMP	step

pseudo:
	CMPQ	AX, $-1
	JEQ	jump
	CMPQ	AX, $-2
	JEQ	compare
	CMPQ	AX, $-4
	JEQ	set
	// opFail
	MOVQ	DI, AX
	JMP	handle

compare:
	MOVQ	(DI), BX
	ANDQ	SI, BX
	CMPQ	BX, DX
	JNE	next

jump:
	MOVL	88(R12), BX
	LEAQ	(R15)(BX*1), R12
	JMP	step

set:
	MOVQ	SI, (DI)
	JMP	next

failed:
	NEGQ	AX

handle:
	// AX is the errno; three handlers, each an errno (-1: any) and where to go on.
	LEAQ	64(R12), BX
	MOVQ	$3, CX
again:
	MOVLQSX	0(BX), DX
	TESTQ	DX, DX
	JZ	exit
	CMPQ	DX, $-1
	JEQ	found
	CMPQ	DX, AX
	JEQ	found
	ADDQ	$8, BX
	DECQ	CX
	JNZ	again

exit:
	MOVL	AX, 4(R13)
	MOVL	92(R12), BX
	MOVL	BX, 0(R13)
	MOVQ	$1, DI
	MOVQ	$SYS_exit_group, AX
	SYSCALL
	INT	$3

found:
	MOVL	4(BX), BX
	LEAQ	(R15)(BX*1), R12
	JMP	step
