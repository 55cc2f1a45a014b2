// Firmware of the emulated machine: loads a static ELF program from the disk and answers the system calls of a C
// library that computes and prints. No files, threads or signals; what it does not know it names on the serial port and
// refuses. One CPU, one program, all in ring 0. The time it tells is the time stamp counter as nanoseconds: the
// emulator counts it by one per instruction, so a duration is a number of instructions.
#include <cstddef>
#include <cstdint>

namespace {

// The disk as emulate.py writes it: the number of sectors and the register sets that the "system" keeps (XCR0), four
// bytes each; arguments, one a line and then a zero byte; from the second sector on the program.
constexpr std::uint64_t kSectorBytes = 512;
constexpr std::uint64_t kDisk = 0x0C00'0000;  // a copy of the disk in memory, up to the end of the memory
constexpr std::uint64_t kProgramFile = kDisk + kSectorBytes;
constexpr std::uint64_t kArguments = kDisk + 8;
constexpr std::uint32_t kSectorsMax = (0x1000'0000 - kDisk) / kSectorBytes;
constexpr std::uint64_t kBreakEnd = 0x0600'0000;
constexpr std::uint64_t kMapEnd = 0x0B00'0000;  // mappings lie between the two
constexpr std::uint64_t kStackTop = 0x0BFF'0000;
constexpr std::uint16_t kSerial = 0x3F8;
constexpr std::uint16_t kAta = 0x1F0;
constexpr std::uint16_t kShutdown = 0x8900;  // the emulator ends when the word Shutdown is written here
constexpr std::size_t kArgumentsMax = 32;

// The firmware is a ROM: what changes lies at fixed places in low memory, which is zero at the start.
struct State {
  std::uint64_t program_break;
  std::uint64_t mapped;
};
State& state() { return *reinterpret_cast<State*>(0x6100); }
std::uint64_t* interrupt_table() { return reinterpret_cast<std::uint64_t*>(0x7000); }

void out8(std::uint16_t port, std::uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
std::uint8_t in8(std::uint16_t port) {
  std::uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
void write_msr(std::uint32_t index, std::uint64_t value) {
  asm volatile("wrmsr" : : "c"(index), "a"(static_cast<std::uint32_t>(value)), "d"(value >> 32));
}
std::uint64_t ticks() {
  std::uint32_t low;
  std::uint32_t high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return (std::uint64_t{high} << 32) | low;
}

void put(char c) {
  while ((in8(kSerial + 5) & 0x20) == 0) {
  }
  out8(kSerial, static_cast<std::uint8_t>(c));
}
void print(const char* text) {
  for (; *text != 0; ++text) put(*text);
}
void print_number(std::uint64_t value, std::uint64_t base) {
  char digits[24];
  int n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  while (n > 0) put(digits[--n]);
}

[[noreturn]] void stop(std::uint64_t status) {
  print("\n== exit ");
  print_number(status, 10);
  print(" after ");
  print_number(ticks(), 10);
  print(" instructions\n");
  while ((in8(kSerial + 5) & 0x40) == 0) {  // the last character is out
  }
  for (const char* c = "Shutdown"; *c != 0; ++c) out8(kShutdown, static_cast<std::uint8_t>(*c));
  for (;;) asm volatile("hlt");
}

// `count` sectors (1..255) from `first` on, by polled transfers.
void read_sectors(std::uint32_t first, std::uint32_t count, std::uint64_t to) {
  while ((in8(kAta + 7) & 0x80) != 0) {
  }
  out8(kAta + 6, static_cast<std::uint8_t>(0xE0 | (first >> 24)));
  out8(kAta + 2, static_cast<std::uint8_t>(count));
  out8(kAta + 3, static_cast<std::uint8_t>(first));
  out8(kAta + 4, static_cast<std::uint8_t>(first >> 8));
  out8(kAta + 5, static_cast<std::uint8_t>(first >> 16));
  out8(kAta + 7, 0x20);
  for (; count > 0; --count) {
    while ((in8(kAta + 7) & 0x88) != 0x08) {  // not busy, data ready
    }
    std::uint64_t words = kSectorBytes / 2;
    asm volatile("rep insw" : "+D"(to), "+c"(words) : "d"(kAta) : "memory");
  }
}

void read_disk() {
  out8(kAta + 0x206, 2);  // no interrupts
  read_sectors(0, 1, kDisk);
  const std::uint32_t sectors = *reinterpret_cast<const std::uint32_t*>(kDisk);
  if (sectors > kSectorsMax) {
    print("the program is too large\n");
    stop(125);
  }
  for (std::uint32_t at = 1; at < sectors; at += 128) {
    read_sectors(at, sectors - at < 128 ? sectors - at : 128, kDisk + at * kSectorBytes);
  }
}

// Enables the wanted register sets that this CPU has; a program asks by XGETBV which ones are kept.
void keep_registers(std::uint32_t wanted) {
  std::uint32_t eax = 0x0D;
  std::uint32_t ecx = 0;
  std::uint32_t ebx;
  std::uint32_t edx;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  asm volatile("xsetbv" : : "c"(0), "a"(eax & wanted), "d"(0));
}

struct ElfHeader {
  std::uint8_t ident[16];
  std::uint16_t type, machine;
  std::uint32_t version;
  std::uint64_t entry, segments, sections;
  std::uint32_t flags;
  std::uint16_t size, segment_size, segment_count, section_size, section_count, names;
};
struct Segment {
  std::uint32_t type, flags;
  std::uint64_t offset, address, physical, file_bytes, memory_bytes, align;
};

struct Program {
  std::uint64_t entry = 0;
  std::uint64_t segments = 0;
  std::uint64_t segment_count = 0;
  std::uint64_t end = 0;
};

void copy(std::uint64_t to, std::uint64_t from, std::uint64_t bytes) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

Program load() {
  const ElfHeader& header = *reinterpret_cast<const ElfHeader*>(kProgramFile);
  if (header.ident[0] != 0x7F || header.ident[4] != 2 || header.type != 2 || header.machine != 62) {
    print("not a static 64-bit ELF program at a fixed address\n");
    stop(125);
  }
  const Segment* segments = reinterpret_cast<const Segment*>(kProgramFile + header.segments);
  Program program;
  program.entry = header.entry;
  program.segment_count = header.segment_count;
  for (std::uint16_t i = 0; i < header.segment_count; ++i) {
    const Segment& s = segments[i];
    if (s.type != 1) continue;
    copy(s.address, kProgramFile + s.offset, s.file_bytes);  // memory behind it is zero from the start
    if (s.offset <= header.segments && header.segments < s.offset + s.file_bytes) {
      program.segments = s.address + header.segments - s.offset;
    }
    if (s.address + s.memory_bytes > program.end) program.end = s.address + s.memory_bytes;
  }
  return program;
}

// argc, argv, an empty environment and the auxiliary vector, as a C library's start code wants them.
std::uint64_t* make_stack(const Program& program) {
  std::uint64_t arguments[kArgumentsMax] = {};
  std::uint64_t count = 0;
  char* at = reinterpret_cast<char*>(kArguments);
  while (*at != 0 && *at != '\n' && count < kArgumentsMax) {
    arguments[count++] = reinterpret_cast<std::uint64_t>(at);
    while (*at != 0 && *at != '\n') ++at;
    if (*at == '\n') *at++ = 0;
  }
  const std::uint64_t auxiliary[] = {3,  program.segments,
                                     4,  sizeof(Segment),
                                     5,  program.segment_count,
                                     6,  4096,
                                     7,  0,
                                     9,  program.entry,
                                     11, 0,
                                     12, 0,
                                     13, 0,
                                     14, 0,
                                     23, 0,
                                     25, kStackTop,
                                     31, arguments[0],
                                     0,  0};
  constexpr std::size_t kAuxiliary = sizeof(auxiliary) / sizeof(auxiliary[0]);
  const std::size_t words = 1 + count + 1 + 1 + kAuxiliary;
  std::uint64_t* stack = reinterpret_cast<std::uint64_t*>((kStackTop - 8 * words) & ~std::uint64_t{63});
  std::uint64_t* to = stack;
  *to++ = count;
  for (std::uint64_t i = 0; i < count; ++i) *to++ = arguments[i];
  *to++ = 0;
  *to++ = 0;
  for (std::size_t i = 0; i < kAuxiliary; ++i) *to++ = auxiliary[i];
  return stack;
}

struct Call {
  std::uint64_t number, a, b, c, d, e, f;
};

constexpr std::int64_t kNoEntry = -2, kAgain = -11, kNoMemory = -12, kInvalid = -22, kNoTerminal = -25, kNoSeek = -29,
                       kNoCall = -38;

std::int64_t write_text(std::uint64_t at, std::uint64_t bytes) {
  for (std::uint64_t i = 0; i < bytes; ++i) put(reinterpret_cast<const char*>(at)[i]);
  return static_cast<std::int64_t>(bytes);
}

std::int64_t write_pieces(std::uint64_t pieces, std::uint64_t count) {
  std::int64_t all = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t* piece = reinterpret_cast<const std::uint64_t*>(pieces + 16 * i);
    all += write_text(piece[0], piece[1]);
  }
  return all;
}

// Pages are handed out once and never again, so they are zero.
std::int64_t map(const Call& call) {
  const std::uint64_t bytes = (call.b + 4095) & ~std::uint64_t{4095};
  if (static_cast<std::int32_t>(call.e) != -1 || bytes > kMapEnd - state().mapped) return kNoMemory;
  const std::uint64_t at = state().mapped;
  state().mapped += bytes;
  return static_cast<std::int64_t>(at);
}

std::int64_t set_break(std::uint64_t wanted) {
  if (wanted >= state().program_break && wanted <= kBreakEnd) state().program_break = wanted;
  return static_cast<std::int64_t>(state().program_break);
}

std::int64_t describe_file(std::uint64_t to) {
  std::uint32_t* fields = reinterpret_cast<std::uint32_t*>(to);
  for (int i = 0; i < 36; ++i) fields[i] = 0;
  fields[6] = 0020620;  // a character device
  fields[14] = 1024;    // st_blksize
  return 0;
}

std::int64_t tell_time(std::uint64_t to, std::uint64_t unit) {
  const std::uint64_t now = ticks();
  reinterpret_cast<std::uint64_t*>(to)[0] = now / 1'000'000'000;
  reinterpret_cast<std::uint64_t*>(to)[1] = now % 1'000'000'000 / unit;
  return 0;
}

std::int64_t set_thread_pointer(const Call& call) {
  if (call.a != 0x1002) return kInvalid;
  write_msr(0xC000'0100, call.b);
  return 0;
}

std::int64_t fill_random(std::uint64_t to, std::uint64_t bytes) {
  for (std::uint64_t i = 0; i < bytes; ++i) reinterpret_cast<std::uint8_t*>(to)[i] = static_cast<std::uint8_t>(i * 37);
  return static_cast<std::int64_t>(bytes);
}

std::int64_t one_cpu(std::uint64_t to) {
  *reinterpret_cast<std::uint64_t*>(to) = 1;
  return 8;
}

std::int64_t refuse(std::uint64_t number) {
  print("[no answer to system call ");
  print_number(number, 10);
  print("]\n");
  return kNoCall;
}

}  // namespace

extern "C" {

[[noreturn]] void enter_program(std::uint64_t entry, std::uint64_t* stack);
void system_call_entry();
extern const char exception_entries[];

std::int64_t answer_system_call(const Call* call) {
  switch (call->number) {
    case 0:    // read: the end of the input
    case 3:    // close
    case 10:   // mprotect
    case 11:   // munmap
    case 13:   // rt_sigaction
    case 14:   // rt_sigprocmask
    case 24:   // sched_yield
    case 28:   // madvise
    case 131:  // sigaltstack
    case 202:  // futex: nobody waits
    case 273:  // set_robust_list
      return 0;
    case 1:
      return write_text(call->b, call->c);
    case 20:
      return write_pieces(call->b, call->c);
    case 2:  // open, readlink, openat, readlinkat
    case 89:
    case 257:
    case 267:
      return kNoEntry;
    case 5:
      return describe_file(call->b);
    case 262:
      return *reinterpret_cast<const char*>(call->b) == 0 ? describe_file(call->c) : kNoEntry;
    case 8:
      return kNoSeek;
    case 9:
      return map(*call);
    case 12:
      return set_break(call->a);
    case 16:
      return kNoTerminal;
    case 39:  // getpid, gettid, set_tid_address
    case 186:
    case 218:
      return 1;
    case 56:  // clone, clone3: one thread
    case 435:
      return kAgain;
    case 60:
    case 231:
      stop(call->a & 0xFF);
    case 79:  // getcwd
      reinterpret_cast<char*>(call->a)[0] = '/';
      reinterpret_cast<char*>(call->a)[1] = 0;
      return 2;
    case 96:
      return tell_time(call->a, 1000);
    case 228:
      return tell_time(call->b, 1);
    case 158:
      return set_thread_pointer(*call);
    case 204:
      return one_cpu(call->c);
    case 234:  // tgkill: abort()
      stop(128 + (call->c & 0x7F));
    case 302:  // prlimit64, rseq
    case 334:
      return kNoCall;
    case 318:
      return fill_random(call->a, call->b);
    default:
      return refuse(call->number);
  }
}

// The compiler calls these by itself.
void* memset(void* to, int value, std::size_t bytes) {
  std::uint64_t at = reinterpret_cast<std::uint64_t>(to);
  asm volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
  return to;
}
void* memcpy(void* to, const void* from, std::size_t bytes) {
  copy(reinterpret_cast<std::uint64_t>(to), reinterpret_cast<std::uint64_t>(from), bytes);
  return to;
}

// frame: the vector, then what the CPU pushed.
void report_exception(const std::uint64_t* frame) {
  const std::uint64_t vector = frame[0];
  const bool has_code = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
  std::uint64_t fault_address;
  asm volatile("movq %%cr2, %0" : "=r"(fault_address));
  print("\n== exception ");
  print_number(vector, 10);
  print(vector == 6 ? " (an instruction that this CPU does not have)" : "");
  print(" at 0x");
  print_number(frame[has_code ? 2 : 1], 16);
  print(", address 0x");
  print_number(fault_address, 16);
  stop(vector == 6 ? 132 : 139);
}

void main_of_firmware() {
  out8(kSerial + 3, 0x80);  // the divisor: 115200 baud
  out8(kSerial, 1);
  out8(kSerial + 1, 0);
  out8(kSerial + 3, 0x03);
  for (std::uint64_t i = 0; i < 32; ++i) {
    const std::uint64_t entry = reinterpret_cast<std::uint64_t>(exception_entries) + 16 * i;
    interrupt_table()[2 * i] = (entry & 0xFFFF) | (0x18ULL << 16) | (0x8E00ULL << 32) | ((entry >> 16 & 0xFFFF) << 48);
    interrupt_table()[2 * i + 1] = entry >> 32;
  }
  struct [[gnu::packed]] {
    std::uint16_t limit = 32 * 16 - 1;
    std::uint64_t base = 0x7000;
  } const pointer;
  asm volatile("lidt %0" : : "m"(pointer));
  write_msr(0xC000'0081, 0x18ULL << 32);
  write_msr(0xC000'0082, reinterpret_cast<std::uint64_t>(&system_call_entry));
  write_msr(0xC000'0084, 0);
  read_disk();
  keep_registers(reinterpret_cast<const std::uint32_t*>(kDisk)[1]);
  const Program program = load();
  state().program_break = (program.end + 4095) & ~std::uint64_t{4095};
  state().mapped = kBreakEnd;
  enter_program(program.entry, make_stack(program));
}

}  // extern "C"
