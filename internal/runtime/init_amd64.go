package runtime

const elfMachine = 0x3e // EM_X86_64
