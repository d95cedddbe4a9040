// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0335-existential-any.md
  .enableUpcomingFeature("ExistentialAny"),
  // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0444-member-import-visibility.md
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// A module of the house: `Sources/<name>` and, beside it, `Tests/<name>Tests`.
func room(
  _ name: String, _ dependencies: [Target.Dependency] = [], settings: [SwiftSetting] = settings
) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

/// For the module that serves clients: debug builds, and so all tests, check at run time that no two accesses to a
/// variable overlap; the release does without, since a check at each access costs a tenth of what a request does.
let servingSettings =
  settings + [.unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))]

/// For modules whose code belongs into that of others: what is generic there costs several times as much otherwise.
let openSettings =
  settings + [.unsafeFlags(["-cross-module-optimization"], .when(configuration: .release))]

func suite(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .testTarget(name: name, dependencies: dependencies, path: "Tests/\(name)", swiftSettings: settings)
}

let package = Package(
  name: "nearside",
  products: [
    .executable(name: "nearside", targets: ["nearside"]),
    .executable(name: "nearside-bench", targets: ["nearside-bench"]),
  ],
  dependencies: [
    // The command line: sub-commands, help texts and sysexits codes, as every Swift tool has them.
    .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.5.0"),
    // The log: the ecosystem's one interface, so that a handler for any format can be put behind it.
    .package(url: "https://github.com/apple/swift-log.git", from: "1.6.0"),
    // Queues of what is owed to clients and awaited from Redis: a ring buffer that others keep well.
    .package(url: "https://github.com/apple/swift-collections.git", from: "1.1.0"),
    // HTTP of the admin endpoint: a parser that the whole ecosystem tests, instead of one of our own. It brings no
    // Foundation, and takes 11 MB of the stripped release binary.
    .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
    // Latencies in nearside-bench: HDR histograms, whose percentiles mean what they mean in other tools.
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift.git", from: "0.2.0"),
  ],
  targets: [
    // Layer 0: what C has, under names that Swift can import.
    .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    // No pkgConfig for hiredis: its flags repeat the default include path, and SwiftPM warns at each build.
    .systemLibrary(name: "CHiredis", providers: [.apt(["libhiredis-dev"])]),
    // TLS to Redis, which Debian 12's hiredis does not have; libpq brings the same library into the process.
    .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
    .target(name: "CLinux"),
    room("Configuration"),

    // Layer 1: pure. Bytes in, decisions out; no socket, no clock, no thread.
    room("Invalidation", ["Configuration"]),
    room("NearCache", ["CLinux", "Configuration", "Invalidation"]),
    room("Policies", ["Invalidation"], settings: openSettings),
    room("Metrics"),

    // What those of the next layer share: it takes a connected socket and gives back another one.
    room("TLS", ["CLinux", "COpenSSL", "Configuration"]),

    // Layer 2: one outside system each; they never import each other.
    room(
      "Postgres",
      [
        "CLibPQ", "Configuration", "Invalidation",
        .product(name: "DequeModule", package: "swift-collections"),
      ]),
    room("Redis", ["CHiredis", "Configuration", "Invalidation", "TLS"]),
    room(
      "Server",
      [
        "CLinux", "Configuration", "Invalidation", "Metrics", "NearCache", "Policies", "TLS",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "Logging", package: "swift-log"),
      ], settings: servingSettings),
    .target(
      name: "Admin",
      dependencies: [
        "CLinux", "Configuration", "Metrics",
        .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      // The live page, as bytes of the program: a file beside it would have to be found.
      resources: [.embedInCode("page.html")], swiftSettings: settings),

    // Layer 3: wires, configures, stops.
    .executableTarget(
      name: "nearside",
      dependencies: [
        "Admin", "CLinux", "Configuration", "Invalidation", "Metrics", "NearCache", "Postgres", "Redis",
        "Server", "TLS",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),

    // The instrument: load, peers, tables. It starts its servers as the tests do.
    .executableTarget(
      name: "nearside-bench",
      dependencies: [
        "CLinux", "Invalidation", "NearCache", "TestSupport", "bench-echo", "bench-relay", "nearside",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Histogram", package: "hdrhistogram-swift"),
      ],
      swiftSettings: settings),
    // The least that a server and a proxy can cost on this machine, in C.
    .executableTarget(name: "bench-echo"),
    .executableTarget(name: "bench-relay"),

    // Real PostgreSQL and Redis servers in temporary folders, for the suites that need them.
    .target(
      name: "TestSupport", dependencies: ["CLibPQ", "CLinux"], path: "Tests/TestSupport",
      swiftSettings: settings),
    // The pure modules against simulated servers, hosts and clocks; `Tests/run` says how to run it. Not a product.
    .executableTarget(
      name: "simulate", dependencies: ["Configuration", "Invalidation", "NearCache"],
      path: "Tests/Simulation",
      exclude: ["seeds"], swiftSettings: settings),
    // What PostgreSQL sees of hot keys and of a flush: the README's table. Not a product.
    .executableTarget(
      name: "database-view", dependencies: ["TestSupport", "nearside"], path: "Tests/DatabaseView",
      swiftSettings: settings),
    suite("SimulationTests", ["Invalidation", "TestSupport", "simulate"]),
    suite("ConfigurationTests", ["Configuration"]),
    suite("InvalidationTests", ["Configuration", "Invalidation"]),
    suite("NearCacheTests", ["Configuration", "Invalidation", "NearCache"]),
    suite("PoliciesTests", ["Invalidation", "Policies"]),
    suite("MetricsTests", ["Metrics"]),
    suite("AdminTests", ["Admin", "Configuration", "Metrics", "TestSupport"]),
    suite("PostgresTests", ["Configuration", "Invalidation", "Postgres", "TestSupport"]),
    suite("RedisTests", ["Configuration", "Invalidation", "Redis", "TestSupport"]),
    suite("TLSTests", ["Configuration", "TLS", "TestSupport"]),
    suite(
      "ServerTests",
      [
        "CLinux", "Configuration", "Invalidation", "NearCache", "Server", "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ]),
    suite("EndToEnd", ["Configuration", "Invalidation", "Postgres", "Server", "TestSupport", "nearside"]),
    suite("Faults", ["CLinux", "Invalidation", "TestSupport", "nearside"]),
  ]
)
