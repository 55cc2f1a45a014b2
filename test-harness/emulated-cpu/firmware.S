// What the emulated CPU executes first, in place of a BIOS: from the reset vector to 64-bit mode with
// the first GiB mapped as it is, then main_of_firmware(). Also the entries for system calls and exceptions.
// The program runs in ring 0 on the same flat memory; no interrupt is ever enabled.

.set kTables, 0x1000          // PML4, PDPT, one page directory of 2 MiB pages
.set kSavedStack, 0x6000      // the program's stack pointer during a system call
.set kFirmwareStack, 0x20000  // grows down
.set kEfer, 0xC0000080

.section .text
.code16
start16:
  cli
  lgdtl %cs:gdt_pointer - 0xF0000
  movl %cr0, %eax
  orl $1, %eax
  movl %eax, %cr0
  ljmpl $0x08, $start32

.code32
start32:
  movw $0x10, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  xorl %eax, %eax
  movl $kTables, %edi
  movl $0x0C00, %ecx
  rep stosl
  movl $(kTables + 0x1003), kTables
  movl $(kTables + 0x2003), kTables + 0x1000
  movl $(kTables + 0x2000), %edi
  movl $0x83, %eax
1:
  movl %eax, (%edi)
  addl $0x200000, %eax
  addl $8, %edi
  cmpl $(kTables + 0x3000), %edi
  jb 1b
  movl $kTables, %eax
  movl %eax, %cr3
  movl $0x40620, %eax  // PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
  movl %eax, %cr4
  movl $kEfer, %ecx
  movl $0x101, %eax  // long mode, SYSCALL
  xorl %edx, %edx
  wrmsr
  movl $0x80000033, %eax  // paging, protection, native FPU errors
  movl %eax, %cr0
  ljmpl $0x18, $start64

.code64
start64:
  movw $0x20, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl $kFirmwareStack, %esp
  xorl %ebp, %ebp
  call main_of_firmware
0:
  hlt
  jmp 0b

// enter_program(entry, stack): never comes back.
.globl enter_program
enter_program:
  movq %rsi, %rsp
  xorl %edx, %edx  // nothing to call at exit
  xorl %ebp, %ebp
  jmpq *%rdi

// RCX holds the return address. The program's stack, its red zone included, stays as it is.
.globl system_call_entry
system_call_entry:
  movq %rsp, kSavedStack
  movq $kFirmwareStack, %rsp
  pushq %rcx
  pushq %r9
  pushq %r8
  pushq %r10
  pushq %rdx
  pushq %rsi
  pushq %rdi
  pushq %rax
  movq %rsp, %rdi
  call answer_system_call
  addq $8, %rsp  // RAX is the answer
  popq %rdi
  popq %rsi
  popq %rdx
  popq %r10
  popq %r8
  popq %r9
  popq %rcx
  movq kSavedStack, %rsp
  jmpq *%rcx

// Exception n jumps to exception_entries + 16 n.
.globl exception_entries
.balign 16
exception_entries:
.set vector, 0
.rept 32
  .balign 16
  pushq $vector
  jmp report
  .set vector, vector + 1
.endr
report:
  movq %rsp, %rdi
  movq $kFirmwareStack, %rsp
  call report_exception

.balign 8
gdt:
  .quad 0
  .quad 0x00CF9A000000FFFF  // 0x08: 32-bit code
  .quad 0x00CF92000000FFFF  // 0x10: data
  .quad 0x00AF9A000000FFFF  // 0x18: 64-bit code
  .quad 0x00CF92000000FFFF  // 0x20: data; SYSCALL takes it beside 0x18
gdt_pointer:
  .word gdt_pointer - gdt - 1
  .long gdt

.section .reset, "ax"
.code16
  ljmp $0xF000, $start16 - 0xF0000
  .balign 16, 0

.section .note.GNU-stack, "", @progbits
