// Every bound of structured output in one place (OC-GRAMMAR-1030). Work is counted in steps, never in time, so that a
// constraint is accepted or refused alike on every machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace orch::grammar {

// The constraint as the client wrote it.
inline constexpr std::size_t kTextBytesMax = 32 * 1024;
inline constexpr std::size_t kJsonDepthMax = 64;         // of the schema's own JSON
inline constexpr std::size_t kPropertiesMax = 512;       // of one object
inline constexpr std::size_t kAlternativesMax = 256;     // of one anyOf, oneOf or type
inline constexpr std::size_t kDisjointStepsMax = 65536;  // of all comparisons between alternatives of oneOf
inline constexpr std::size_t kExpressionDepthMax = 64;   // groups within groups of a regex or GBNF rule
inline constexpr std::size_t kExpressionNodesMax = 32768;
inline constexpr std::uint32_t kRepeatMax = 8192;  // a count in {m,n}, minLength, maxItems, ...

// The network made of it. States and edges are counted while they are made, which bounds memory and time.
inline constexpr std::uint32_t kStatesMax = 65536;
inline constexpr std::uint32_t kEdgesMax = 262144;
inline constexpr std::uint32_t kRulesMax = 8192;

// What runs over it.
inline constexpr std::uint32_t kStackDepthMax = 256;       // calls within calls: the nesting of a document
inline constexpr std::size_t kReadingsMax = 1024;          // of one prefix that are followed
inline constexpr std::uint32_t kClosureStepsMax = 16384;   // to find the readings after one byte
inline constexpr std::size_t kOpenMax = 131072;            // readings still to be looked at then
inline constexpr std::uint64_t kMaskStepsMax = 4'000'000;  // for one mask; tokens not looked at by then are left out

// What a worker holds for constraints, in bytes (OC-GRAMMAR-1035). The memory estimate counts the sum before a load.
inline constexpr std::size_t kMiB = std::size_t{1} << 20;
inline constexpr std::size_t kCompiledBytesMax =
    24 * kMiB;  // compiled constraints, kept or in use; the largest is 4 MiB
inline constexpr std::size_t kAutomatonBytesMax = 8 * kMiB;   // states of one constraint, beside those it stands on
inline constexpr std::size_t kMasksBytesMax = 4 * kMiB;       // masks of one constraint, least recently used last
inline constexpr std::size_t kStepBytesMax = 4 * kMiB;        // what one step of an automaton may add beyond them
inline constexpr std::size_t kWorkBytesMax = 40 * kMiB;       // states and masks of all constraints
inline constexpr std::size_t kCompilingBytesMax = 24 * kMiB;  // one constraint while it is compiled
inline constexpr std::size_t kConstraintBytesMax = kCompiledBytesMax + kWorkBytesMax + kCompilingBytesMax;

// Numbers of a document.
inline constexpr int kIntegerDigitsMax = 18;      // fits 64 bits
inline constexpr int kFractionDigitsMax = 16;     // of a number without bounds
inline constexpr int kExponentDigitsMax = 2;      // fits a double
inline constexpr int kSignificantDigitsMax = 15;  // of a bounded number: below them binary64 keeps decimal order
inline constexpr std::uint32_t kIndentMax = 16;   // blanks behind a line break

}  // namespace orch::grammar
