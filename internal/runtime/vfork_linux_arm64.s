//go:build !race

#include "textflag.h"

#define SYS_exit_group 94
#define SYS_rt_sigprocmask 135
#define SYS_clone3 435
#define SIG_SETMASK 2
#define CLONE_ARGS_SIZE 88

// func vfork(mem, ops uintptr) (pid int)
//
// What vfork_linux_amd64.s does, and says, for this architecture. The child's state:
//
//	R19 mem   R20 ops   R21 the current operation
TEXT ·vfork(SB),NOSPLIT,$0-24
	BL	runtime·entersyscall(SB)
	MOVD	mem+0(FP), R19
	MOVD	ops+8(FP), R20

	// No signal may be handled in the child before its handlers are cleared.
	MOVD	$SIG_SETMASK, R0
	ADD	$24, R19, R1
	ADD	$32, R19, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigprocmask, R8
	SVC

	ADD	$40, R19, R0
	MOVD	$CLONE_ARGS_SIZE, R1
	MOVD	$SYS_clone3, R8
	SVC
	CBZ	R0, child

	MOVD	R0, pid+16(FP)
	MOVD	$SIG_SETMASK, R0
	ADD	$32, R19, R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigprocmask, R8
	SVC
	BL	runtime·exitsyscall(SB)
	RET

child:
	MOVD	R20, R21

step:
	MOVW	0(R21), R9
	MOVWU	4(R21), R10
	MOVD	16(R21), R0
	MOVD	24(R21), R1
	MOVD	32(R21), R2
	MOVD	40(R21), R3
	MOVD	48(R21), R4
	MOVD	56(R21), R5
	CBZ	R10, loaded
	TBZ	$0, R10, load1
	MOVD	(R0), R0
load1:
	TBZ	$1, R10, load2
	MOVD	(R1), R1
load2:
	TBZ	$2, R10, load3
	MOVD	(R2), R2
load3:
	TBZ	$3, R10, load4
	MOVD	(R3), R3
load4:
	TBZ	$4, R10, load5
	MOVD	(R4), R4
load5:
	TBZ	$5, R10, loaded
	MOVD	(R5), R5

loaded:
	TBNZ	$63, R9, pseudo
	MOVD	R9, R8
	SVC
	CMN	$4095, R0
	BCS	failed
	MOVD	8(R21), R10
	CBZ	R10, next
	MOVD	R0, (R10)

next:
	ADD	$96, R21, R21
	B	step

pseudo:
	CMN	$1, R9
	BEQ	jump
	CMN	$2, R9
	BEQ	compare
	CMN	$4, R9
	BEQ	set
	// opFail, whose errno is in R0
	B	handle

compare:
	MOVD	(R0), R10
	AND	R1, R10, R10
	CMP	R2, R10
	BNE	next

jump:
	MOVWU	88(R21), R10
	ADD	R20, R10, R21
	B	step

set:
	MOVD	R1, (R0)
	B	next

failed:
	NEG	R0, R0

handle:
	// R0 is the errno; three handlers, each an errno (-1: any) and where to go on.
	ADD	$64, R21, R10
	MOVD	$3, R11
again:
	MOVW	0(R10), R12
	CBZ	R12, exit
	CMN	$1, R12
	BEQ	found
	CMP	R0, R12
	BEQ	found
	ADD	$8, R10, R10
	SUB	$1, R11, R11
	CBNZ	R11, again

exit:
	MOVW	R0, 4(R19)
	MOVWU	92(R21), R10
	MOVW	R10, 0(R19)
	MOVD	$1, R0
	MOVD	$SYS_exit_group, R8
	SVC
	UNDEF

found:
	MOVWU	4(R10), R10
	ADD	R20, R10, R21
	B	step
