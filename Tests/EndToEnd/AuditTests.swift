import Glibc
import TestSupport
import Testing

@testable import nearside

@Suite("The audit")
struct AuditTests {
  private static let options = [
    #""audit": { "share": "100%" }"#,
    #"""
    "caches": {
      "user:{id}": { "load": "SELECT name FROM users WHERE id = :id", "ttl": "1h" },
      "product:{id}": { "load": { "sql": "SELECT name, stock FROM products WHERE id = :id", "as": "hash" }, "ttl": "1h" }
    }
    """#,
  ]

  private func reads(_ sidecar: Sidecar, _ command: [String], until done: (Sidecar) throws -> Bool) throws {
    let client = try sidecar.client()
    try eventually("the audit has compared it", within: .seconds(20)) {
      _ = try client.call(command)
      return try done(sidecar)
    }
  }

  @Test(
    "What is served agrees with the database: samples are counted, and none is stale, also while rows change")
  func agrees() throws {
    let world = try World(options: Self.options)
    let sidecar = try world.sidecar()
    try reads(sidecar, ["GET", world.key("user:1")]) { try $0.count("audit_samples") >= 3 }
    try reads(sidecar, ["HGETALL", world.key("product:1")]) { try $0.count("audit_samples") >= 6 }
    for change in 0..<30 {
      try world.psql("UPDATE users SET name = 'name \(change)' WHERE id = 1")
      for _ in 0..<20 { _ = try sidecar.get(world.key("user:1")) }
    }
    let before = try sidecar.count("audit_samples")
    try reads(sidecar, ["GET", world.key("user:1")]) { try $0.count("audit_samples") >= before + 3 }
    #expect(try sidecar.count("audit_stale") == 0, "\(sidecar.log)")
  }

  @Test("A value that was written past the socket is found, with what is known of it and without the value")
  func poisoned() throws {
    let world = try World(options: Self.options)
    let sidecar = try world.sidecar()
    let user = world.key("user:2")
    try world.redis?.cli("SET", user, "p01son")
    try reads(sidecar, ["GET", user]) { try $0.count("audit_stale") >= 1 }
    #expect(
      sidecar.log.contains("a cached value of user:{id} differs from the database; governed:1"),
      "\(sidecar.log)")
    #expect(!sidecar.log.contains("p01son") && !sidecar.log.contains(user))
    let metrics = try sidecar.admin.get("/metrics").body
    #expect(metrics.contains("nearside_health{part=\"audit\"} 1\n"))
    let stale = AdminTests.figure("nearside_audit_stale_total", in: metrics)
    #expect(stale.map { $0 >= 1 } == true, "\(metrics)")
    let health = try sidecar.admin.get("/healthz").body
    #expect(health.contains("were stale") && !health.contains("p01son"), "\(health)")
    // What the row's next change mends is not found any more.
    try world.psql("UPDATE users SET name = 'mended' WHERE id = 2")
    try world.settle(sidecar)
    #expect(try sidecar.get(user) == "mended")
    let found = try sidecar.count("audit_stale")
    let samples = try sidecar.count("audit_samples")
    try reads(sidecar, ["GET", user]) { try $0.count("audit_samples") >= samples + 3 }
    #expect(try sidecar.count("audit_stale") == found, "\(sidecar.log)")
  }

  @Test("Nothing is sampled unless it is asked for, and a reload begins it")
  func off() throws {
    let world = try World(options: [#""audit": { "share": "0%" }"#, Self.options[1]])
    let sidecar = try world.sidecar()
    for _ in 0..<200 { _ = try sidecar.get(world.key("user:1")) }
    #expect(try sidecar.count("audit_samples") == 0)
    let text = readFile(sidecar.configuration) ?? ""
    try writeFile(text.replacing("\"0%\"", with: "\"100%\""), to: sidecar.configuration)
    sidecar.signal(1)
    try reads(sidecar, ["GET", world.key("user:1")]) { try $0.count("audit_samples") >= 1 }
  }

  @Test("What other threads answer is sampled, too, from a reload on")
  func readers() throws {
    let world = try World(options: [#""threads": 3"#, #""audit": { "share": "0%" }"#, Self.options[1]])
    let sidecar = try world.sidecar()
    let user = world.key("user:1")
    let client = try sidecar.client()
    func read() throws { _ = try client.pipeline([[String]](repeating: ["GET", user], count: 256)) }
    try eventually("the client is lent") {
      try read()
      return try sidecar.count("clients_lent") > 0
    }
    let before = try sidecar.count("audit_samples")
    #expect(before == 0)
    let text = readFile(sidecar.configuration) ?? ""
    try writeFile(text.replacing(#""0%""#, with: #""100%""#), to: sidecar.configuration)
    sidecar.signal(SIGHUP)
    try eventually("hits of a client that stays lent are compared", within: .seconds(20)) {
      try read()
      let samples = try sidecar.count("audit_samples")
      return try samples >= 2 && sidecar.count("clients_lent") > 0
    }
    let metrics = try sidecar.admin.get("/metrics").body
    #expect(metrics.contains("nearside_audit_stale_total 0\n") && metrics.contains("nearside_audit_nines "))
  }

  // MARK: Judged without servers

  private func reading(_ value: String?, _ removal: String = "1") -> AuditTrial.Reading {
    AuditTrial.Reading(value: value.map { [Array($0.utf8)] } ?? [], removal: removal)
  }

  @Test("The same value agrees at once, also if both have nothing")
  func same() {
    for value in ["x", nil] {
      var trial = AuditTrial()
      #expect(trial.read(reading(value)) == .load)
      #expect(trial.loaded(reading(value).value) == .done(.agrees))
    }
  }

  @Test(
    "Another value counts as stale only if everything was applied, no removal came, and it is still served")
  func stale() {
    var trial = AuditTrial()
    #expect(trial.read(reading("old")) == .load)
    #expect(trial.loaded(reading("new").value) == .settle)
    var late = trial
    #expect(late.settled(false) == .done(.undecided))
    #expect(trial.settled(true) == .read)
    var (flip, seen) = (trial, trial)
    #expect(trial.read(reading("old")) == .done(.stale))
    // It was removed and is there again: a change there and back.
    #expect(flip.read(reading("old", "2")) == .load)
    #expect(flip.loaded(reading("old").value) == .done(.agrees))
    #expect(seen.read(reading("new", "2")) == .done(.agrees))
  }

  @Test("What changes all the time, or is not answered, is given up")
  func undecided() {
    var trial = AuditTrial()
    #expect(trial.read(reading("0", "0")) == .load)
    for change in 1...AuditTrial.mostTries {
      #expect(trial.loaded(reading("other").value) == .settle)
      #expect(trial.settled(true) == .read)
      let step = trial.read(reading("\(change)", "\(change)"))
      #expect(step == (change == AuditTrial.mostTries ? .done(.undecided) : .load))
    }
    var silent = AuditTrial()
    #expect(silent.read(nil) == .done(.undecided))
    var deaf = AuditTrial()
    #expect(deaf.read(reading("x")) == .load)
    #expect(deaf.loaded(nil) == .done(.undecided))
  }

  @Test("Of what NEARSIDE WHY says only that counts which changes with a removal")
  func removal() {
    let text =
      "key:k\nfill_age_ms:5\ninvalidation:transaction\ninvalidation_age_ms:7\ninvalidation_at:t\ngeneration:g\ngeneration_age_ms:1\n"
    #expect(AuditThread.removal(in: text) == "invalidation:transaction\ninvalidation_at:t\ngeneration:g")
  }
}
