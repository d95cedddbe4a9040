import Glibc
import TestSupport

extension Fault {
  static let postgres: [Fault] = [
    Fault(name: "PostgreSQL restarts (fast)", target: .postgres, lasts: 0...1000) { scene, _ in
      let server = scene.cluster.postgres
      try server.stop(.fast)
      return { try server.start() }
    },
    Fault(name: "PostgreSQL restarts (immediate)", target: .postgres, lasts: 0...1000) { scene, _ in
      let server = scene.cluster.postgres
      try server.stop(.immediate)
      scene.workload.lose("immediate restart")
      return { try server.start() }
    },
    Fault(name: "kill -9 of a backend", target: .postgres, lasts: 500...1500) { scene, _ in
      try scene.cluster.killBackend()
      scene.workload.lose("kill -9 of a backend")
      return {}
    },
    Fault(name: "kill -9 of PostgreSQL", target: .postgres, lasts: 0...1500) { scene, _ in
      let server = scene.cluster.postgres
      server.kill()
      scene.workload.lose("kill -9 of PostgreSQL")
      return { try server.start() }
    },
    Fault(name: "PostgreSQL stands still", target: .postgres, lasts: 300...4000) { scene, _ in
      let server = scene.cluster.postgres
      server.pause()
      return { server.resume() }
    },
    Fault(name: "a standby is promoted", target: .postgres, lasts: 0...500, doubts: true) {
      scene, random in
      let cluster = scene.cluster
      if cluster.standby == nil { try cluster.makeStandby() }
      if random.oneIn(2) {
        cluster.standby?.link.freeze()
        sleep(random.time(50...800))
      }
      cluster.postgres.kill()
      scene.workload.lose("promotion", newTimeline: true)
      try cluster.promoteStandby()
      cluster.hosts.forEach(cluster.repoint)
      return { try cluster.makeStandby() }
    },
    Fault(name: "commits wait for a standby that does not exist", target: .postgres, lasts: 500...4000) {
      scene, random in
      let server = scene.cluster.postgres
      server.set("synchronous_standby_names", "'nobody'")
      try server.reload()
      let cancels = random.oneIn(2)
      return {
        if cancels { try scene.cluster.cancelWaits() }
        server.set("synchronous_standby_names", "''")
        try server.reload()
      }
    },
    Fault(name: "DDL in mid-stream", target: .postgres, lasts: 100...800) { scene, random in
      let cluster = scene.cluster
      let column = "extra_\(UInt32.random(in: 0...UInt32.max, using: &random))"
      try cluster.sql("SET lock_timeout = '5s'; ALTER TABLE kv ADD COLUMN \(column) int DEFAULT 7")
      return {
        // The second rewrites the table.
        try cluster.sql(
          """
          SET lock_timeout = '5s';
          ALTER TABLE kv DROP COLUMN \(column);
          ALTER TABLE kv ALTER COLUMN note TYPE varchar USING note || '';
          """)
      }
    },
    Fault(name: "a transaction of many rows", target: .postgres, lasts: 100...500) { scene, random in
      let cluster = scene.cluster
      // Above 100,000 keys a transaction costs a generation.
      let rows = random.oneIn(2) ? 120_000 : 30_000
      try cluster.sql("INSERT INTO big SELECT n FROM generate_series(1, \(rows)) n")
      return { try cluster.sql("DELETE FROM big") }
    },
  ]

  static let slot: [Fault] = [
    Fault(name: "the slot is dropped", target: .postgres, lasts: 0...500, doubts: true) { scene, _ in
      try scene.cluster.seizeSlot("pg_drop_replication_slot('\(scene.cluster.slot)')")
      return {}
    },
    Fault(name: "the slot is advanced", target: .postgres, lasts: 0...500, doubts: true) { scene, _ in
      try scene.cluster.seizeSlot(
        "pg_replication_slot_advance('\(scene.cluster.slot)', pg_current_wal_lsn())")
      return {}
    },
    Fault(name: "somebody else consumes the slot", target: .postgres, lasts: 0...500, doubts: true) {
      scene, _ in
      let cluster = scene.cluster
      try cluster.seizeSlot(
        """
        count(*) FROM pg_logical_slot_get_binary_changes('\(cluster.slot)', NULL, NULL,
          'proto_version', '1', 'publication_names', '\(cluster.publication)')
        """)
      return {}
    },
    Fault(name: "the publication is dropped", target: .postgres, lasts: 300...2000, doubts: true) {
      scene, _ in
      let cluster = scene.cluster
      try cluster.sql("DROP PUBLICATION \(cluster.publication)")
      return { try cluster.setUp() }
    },
  ]
}

extension Cluster {
  /// Kills the process behind one of the writers' connections, or any other; PostgreSQL then ends all of them
  /// and recovers as from a crash.
  func killBackend() throws {
    let pid = try sql(
      """
      SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
      ORDER BY application_name = 'writer' DESC LIMIT 1
      """)
    guard let number = pid_t(pid) else { throw HarnessError("there is no backend to kill") }
    kill(number, SIGKILL)
  }

  /// Cancels the waits of commits for a standby: they are visible from then on.
  func cancelWaits() throws {
    try sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
  }

  /// Ends the walsender that holds the slot and calls `function` on the slot before a sidecar holds it again.
  func seizeSlot(_ function: String) throws {
    try sql(
      """
      DO $$
      DECLARE tries int := 0;
      BEGIN
        LOOP
          PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots
            WHERE slot_name = '\(slot)' AND active_pid IS NOT NULL;
          BEGIN
            PERFORM \(function);
            RETURN;
          EXCEPTION WHEN object_in_use THEN
            tries := tries + 1;
            IF tries > 1000 THEN RAISE; END IF;
            PERFORM pg_sleep(0.005);
          END;
        END LOOP;
      END $$
      """)
  }

  /// Runs `nearside setup --apply` again, beside the sidecars that run.
  func setUp() throws {
    let folder = try TemporaryFolder()
    let done = try Sidecar.command(
      ["setup", "--config", folder.write(configuration, to: "config.json"), "--apply"],
      environment: ["DATABASE_URL": url, "REDIS_URL": redis.url])
    guard done.exit == .code(0) else { throw HarnessError("setup: \(done.output)\(done.errors)") }
  }
}
