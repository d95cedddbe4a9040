import Configuration

extension PostgresPreflight {
  static func judge(version: Int) -> Finding {
    guard version < 140_000 else { return .good("version", "PostgreSQL is version \(text(version)).") }
    return Finding(
      "version", .error, "PostgreSQL is version \(version / 10_000), which is too old.",
      fix: "Nearside needs version 14 or later.")
  }

  /// `150018` is 15.18.
  private static func text(_ version: Int) -> String { "\(version / 10_000).\(version % 10_000)" }

  static func judge(_ server: ServerFacts) -> [Finding] {
    [primary(server), walLevel(server), replicationRight(server), synchronous(server)]
  }

  private static func primary(_ server: ServerFacts) -> Finding {
    guard server.isStandby else { return .good("primary", "The server is a primary.") }
    return Finding(
      "primary", .error, "The server is a standby; changes can be read from the primary only.",
      fix: "Point postgres.url at the primary.")
  }

  private static func walLevel(_ server: ServerFacts) -> Finding {
    guard server.walLevel != "logical" else { return .good("wal_level", "wal_level is logical.") }
    return Finding(
      "wal_level", .error,
      "wal_level is \(server.walLevel), so the log lacks what logical replication needs.",
      fix: "Run ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL.")
  }

  private static func replicationRight(_ server: ServerFacts) -> Finding {
    guard !server.roleMayReplicate else {
      return .good("replication_right", "Role \(server.role) has the right to replicate.")
    }
    return Finding(
      "replication_right", .error, "Role \(server.role) has no right to replicate.",
      fix: "As a superuser, run ALTER ROLE \(quotedIdentifier(server.role)) REPLICATION.",
      isMissingRight: true)
  }

  private static func synchronous(_ server: ServerFacts) -> Finding {
    guard matches(server.applicationName, standbyNames: server.synchronousStandbyNames) else {
      return .good("synchronous_standby_names", "No commit waits for the sidecar.")
    }
    return Finding(
      "synchronous_standby_names", .error,
      "synchronous_standby_names matches the sidecar's application_name \(server.applicationName), so "
        + "every commit would wait for the sidecar.",
      fix: "Name the real standbys there, or give the sidecar another application_name in postgres.url.")
  }

  /// Whether a standby of this name would be a synchronous one. `FIRST 2 (a, "B c")`, `ANY 1 (*)`, `2 (a)`,
  /// `a, b`. Source: PostgreSQL documentation, 20.6.2, "synchronous_standby_names"; case does not matter,
  /// `*` matches all.
  static func matches(_ application: String, standbyNames: String) -> Bool {
    var list = Substring(standbyNames)
    if let open = list.firstIndex(of: "("), let close = list.lastIndex(of: ")"), open < close,
      !list[..<open].contains("\"")
    {
      list = list[list.index(after: open)..<close]
    }
    return list.split(separator: ",").contains { entry in
      var name = entry.drop { $0.isWhitespace }
      while name.last?.isWhitespace == true { name.removeLast() }
      if name == "*" { return true }
      if name.count >= 2, name.first == "\"", name.last == "\"" {
        name = name.dropFirst().dropLast()
      }
      return name.lowercased() == application.lowercased()
    }
  }
}
