package runtime

const elfMachine = 0xb7 // EM_AARCH64
