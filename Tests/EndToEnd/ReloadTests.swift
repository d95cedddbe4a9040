import Glibc
import TestSupport
import Testing

@Suite("SIGHUP")
struct ReloadTests {
  private func replace(_ sidecar: Sidecar, _ old: String, _ new: String) throws {
    let text = readFile(sidecar.configuration) ?? ""
    #expect(text.contains(old), "\(text)")
    try writeFile(text.replacing(old, with: new), to: sidecar.configuration)
  }

  private func rewrite(_ sidecar: Sidecar, _ old: String, _ new: String) throws {
    try replace(sidecar, old, new)
    sidecar.signal(SIGHUP)
  }

  private func expectLog(_ sidecar: Sidecar, _ text: String) throws {
    try eventually("the log says: \(text)") { sidecar.log.contains(text) }
  }

  @Test(
    "takes over what can be taken over, names what needs a restart, and keeps the old one when the new one is wrong"
  )
  func reload() throws {
    let world = try World(options: [#""log": { "level": "info" }"#, #""staleness": { "bound": "30s" }"#])
    let sidecar = try world.sidecar()
    let user = world.key("user:1")
    try warm(user, "one", sidecar)
    #expect(try sidecar.status()["staleness_bound_ms"] == "30000")

    try rewrite(sidecar, #""bound": "30s""#, #""bound": "29s", "beyond": "fail""#)
    try expectLog(sidecar, "taken over from the configuration: staleness.bound, staleness.beyond")
    try eventually("it holds") { try sidecar.status()["staleness_bound_ms"] == "29000" }
    #expect(try sidecar.get(user) == "one")

    // Wrong in one place: nothing of it is taken over.
    try rewrite(sidecar, #""bound": "29s""#, #""bound": "28s", "bounds": "27s""#)
    try expectLog(sidecar, "the one of before stays in force")
    try expectLog(sidecar, "unknown key")
    #expect(try sidecar.status()["staleness_bound_ms"] == "29000")

    // Half of it can be taken over.
    try rewrite(sidecar, #""bound": "28s", "bounds": "27s""#, #""bound": "28s""#)
    try rewrite(
      sidecar, #""log": { "level": "info" }"#,
      #""log": { "level": "debug", "format": "text" }, "near": { "size": "32MiB" }"#)
    try expectLog(sidecar, "need a restart: near.size, log.format")
    try eventually("it holds") { try sidecar.status()["staleness_bound_ms"] == "28000" }
    #expect(try sidecar.get(user) == "one")

    // And again, with nothing changed since.
    let reloads = #"nearside_config_reloads_total{result="success"}"#
    let before = try AdminTests.figure(reloads, in: sidecar.admin.get("/metrics").body)
    sidecar.signal(SIGHUP)
    try eventually("it is read again") {
      try AdminTests.figure(reloads, in: sidecar.admin.get("/metrics").body) == (before ?? 0) + 1
    }
    #expect(try sidecar.status()["staleness_bound_ms"] == "28000")
    #expect(try sidecar.get(user) == "one")
    #expect(try sidecar.terminate() == .code(0))
  }

  @Test(
    "Where nothing changes beats are rarer the longer the bound is, and a shorter one makes them frequent again"
  )
  func cadence() throws {
    let world = try World(options: [#""staleness": { "bound": "30s" }"#])
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar()
    /// In a second. The tailer counts its beats in the fleet's state.
    func beats() throws -> Int {
      let state = "nearside:{\(world.database)}:m"
      let before = try #require(Int(try redis.cli("HGET", state, "h")))
      let start = ContinuousClock.now
      sleep(.seconds(2))
      let after = try #require(Int(try redis.cli("HGET", state, "h")))
      return Int(Double(after - before) * 1000 / (ContinuousClock.now - start).milliseconds)
    }
    try eventually("it rests", within: .seconds(30)) { try beats() <= 4 }
    #expect(try Int(sidecar.status()["staleness_ms"] ?? "").map { $0 < 5000 } == true)
    try rewrite(sidecar, #""bound": "30s""#, #""bound": "800ms""#)
    try eventually("it beats as a shorter bound wants", within: .seconds(30)) { try beats() >= 7 }
  }

  @Test("A shorter bound holds for what is near already")
  func boundOfEntries() throws {
    let world = try World(
      options: [
        #""caches": { "user:{id}": { "staleness": { "bound": "30s", "beyond": "serve" } } }"#,
        #""staleness": { "bound": "30s" }"#,
      ])
    let sidecar = try world.sidecar()
    let user = world.key("user:1")
    try warm(user, "one", sidecar)
    try rewrite(sidecar, #""bound": "30s", "beyond": "serve""#, #""bound": "1s", "beyond": "fail""#)
    try expectLog(sidecar, #"taken over from the configuration: caches.\"user:{id}\".staleness"#)
    try eventually("it is near again") { try sidecar.get(user) == "one" && sidecar.hasNear(user) }
    world.postgres.pause()
    defer { world.postgres.resume() }
    try eventually("a read fails") { try sidecar.get(user).errorText?.hasPrefix("STALE") == true }
  }

  @Test("POST /reload and nearside reload do the same and answer what came of it")
  func asked() throws {
    let world = try World(options: [#""log": { "level": "info" }"#])
    let sidecar = try world.sidecar()
    func reload(_ more: String...) throws -> Finished {
      try Sidecar.command(["reload", "--admin", sidecar.socket + ".admin"] + more, environment: [:])
    }
    #expect(try reload().output == "Nothing has changed.\n")
    try replace(sidecar, #""level": "info""#, #""level": "debug", "format": "text""#)
    let taken = try reload()
    #expect(taken.output == "taken over: log.level\nneeds a restart: log.format\n", "\(taken)")
    #expect(taken.exit == .code(0))
    #expect(try sidecar.admin.get("/config").body.contains(#""level":"debug""#))
    // What differs still is told again.
    let again = try reload("--json")
    #expect(
      again.output.contains(#""reloaded":true,"changed":[],"needs_restart":["log.format"]"#), "\(again)")
    try replace(sidecar, #""level": "debug""#, #""level": "loud""#)
    let refused = try reload()
    #expect(refused.exit == .code(78))
    #expect(
      refused.errors.contains("\"loud\" is none of") && refused.errors.contains("goes on"),
      "\(refused.errors)")
    let metrics = try sidecar.admin.get("/metrics").body
    #expect(metrics.contains("nearside_config_reloads_total{result=\"success\"} 3\n"), "\(metrics)")
    #expect(metrics.contains("nearside_config_reloads_total{result=\"failure\"} 1\n"))
    #expect(metrics.contains("nearside_health{part=\"configuration\"} 1\n"))
    let health = try sidecar.admin.get("/healthz").body
    #expect(health.contains("The newest configuration was refused"), "\(health)")
  }

  @Test("A shorter bound holds for clients that other threads answer, too")
  func readers() throws {
    let world = try World(options: [#""threads": 3"#, #""staleness": { "bound": "30s", "beyond": "fail" }"#])
    let sidecar = try world.sidecar()
    let user = world.key("user:1")
    try warm(user, "one", sidecar)
    let client = try sidecar.client()
    func read() throws -> [Reply] { try client.pipeline([[String]](repeating: ["GET", user], count: 256)) }
    try eventually("the client is lent") {
      _ = try read()
      return try sidecar.count("clients_lent") > 0
    }
    try rewrite(sidecar, #""bound": "30s""#, #""bound": "1s""#)
    try expectLog(sidecar, "taken over from the configuration: staleness.bound")
    try eventually("it is near again") { try sidecar.get(user) == "one" && sidecar.hasNear(user) }
    try eventually("the client is lent again") {
      _ = try read()
      return try sidecar.count("clients_lent") > 0
    }
    world.postgres.pause()
    defer { world.postgres.resume() }
    try eventually("its reads fail") { try read().last?.errorText?.hasPrefix("STALE") == true }
  }
}
