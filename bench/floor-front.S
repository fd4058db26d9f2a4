/* The smallest front end there can be: no library, one execve(2) of the helper. x86_64. */
        .globl _start
        .text
_start: mov     (%rsp), %rdi
        lea     8(%rsp), %rsi
        lea     8(%rsi,%rdi,8), %rdx
        lea     helper(%rip), %rdi
        mov     $59, %eax
        syscall
        mov     $60, %eax
        mov     $127, %edi
        syscall
        .section .rodata
helper: .asciz  "/usr/local/lib/floor"
        .section .note.GNU-stack,"",@progbits
