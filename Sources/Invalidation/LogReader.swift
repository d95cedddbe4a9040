import Configuration

/// Reads the replication stream: pgoutput, protocol version 1, text values. From a row it takes only the
/// columns that templates name, straight from the message's bytes into the batch's.
///
/// How it works:
/// 1. The caller tells what the catalogue says of each table (`learn`).
/// 2. A Relation message says how rows look from here on. With the catalogue and the plan it becomes a
///    `BoundRelation`: which columns matter, and how keys are put together from them.
/// 3. A row's tuples are walked once, noting where the values of those columns lie; then each template is
///    written into one reused buffer and handed to the batch.
///
/// After an error the reader is of no further use, like the stream.
/// Source: PostgreSQL documentation, 55.5 "Logical Streaming Replication Protocol", 55.9 "Logical
/// Replication Message Formats".
public struct LogReader: ~Copyable, Sendable {
  let plan: KeyPlan
  let maximumKeys: Int

  private var catalogue: [UInt32: CatalogueTable] = [:]
  /// Objects, so that a row does not copy what it is read by.
  private var relations: [KnownRelation] = []
  private var indexOf: [UInt32: Int] = [:]
  /// Rows of one table come in runs.
  private var lastID: UInt32 = 0
  private var lastIndex = -1
  /// The relation that the caller was last asked to learn: what it has answered is the best there is.
  private var asked: UInt32?

  var transaction: Transaction?
  private var serial: UInt64 = 0
  /// The end of the last transaction.
  private var through = LSN.zero
  /// For each rule of the plan the serial of the last transaction in which it was doubted.
  private var doubted: [UInt64]

  private var row = Row()
  /// How many rows a rule asked for: of each table of the plan the inserted, updated and deleted ones.
  public private(set) var changes: [Int]

  struct Transaction {
    var id: UInt32
    var commit: LSN
    var overflowed = false
  }

  /// A transaction with more keys than `maximumKeys` gives `doubt(.tooManyKeys)`, and the rest of its rows
  /// is passed over.
  public init(plan: KeyPlan, maximumKeys: Int) {
    self.plan = plan
    self.maximumKeys = maximumKeys
    doubted = [UInt64](repeating: 0, count: plan.tables.count)
    changes = [Int](repeating: 0, count: plan.tables.count * 3)
  }

  /// Takes what the catalogue says of a relation, at the start, after `unknownRelation`, and whenever the
  /// catalogue has changed. For one that the catalogue no longer has there is `CatalogueTable.dropped`.
  public mutating func learn(_ table: CatalogueTable) {
    catalogue[table.id] = table
    if let index = indexOf[table.id] { bind(relations[index].bound.relation, table) }
  }

  /// Reads one message, the payload of one XLogData.
  ///
  /// `batch` must hold what the reader gave it of the transaction in progress; keys go into its open part.
  public mutating func read(
    _ message: UnsafeRawBufferPointer, into batch: inout KeyBatch
  ) throws(PgOutputError) -> LogEvent {
    var cursor = PgOutputCursor(message)
    let tag = try cursor.byte()
    switch tag {
    case UInt8(ascii: "I"): return try insert(&cursor, &batch)
    case UInt8(ascii: "U"): return try update(&cursor, &batch)
    case UInt8(ascii: "D"): return try delete(&cursor, &batch)
    case UInt8(ascii: "B"): return try begin(&cursor)
    case UInt8(ascii: "C"): return try commit(&cursor)
    case UInt8(ascii: "R"): return try relation(&cursor)
    case UInt8(ascii: "T"): return try truncate(&cursor)
    case UInt8(ascii: "M"): return try logicalMessage(&cursor, &batch)
    case UInt8(ascii: "O"):
      try cursor.skip(8)  // The position at the origin.
      _ = try cursor.string()
    case UInt8(ascii: "Y"):
      try cursor.skip(4)  // The type's oid; the catalogue tells types by their columns.
      _ = try cursor.string()
      _ = try cursor.string()
    default: throw .unknownTag(tag, at: 0)
    }
    try cursor.finish()
    return .nothing
  }

  // MARK: Transactions

  private mutating func begin(_ cursor: inout PgOutputCursor) throws(PgOutputError) -> LogEvent {
    let commit = LSN(try cursor.uint64())
    try cursor.skip(8)  // The time, which Commit repeats.
    let id = try cursor.uint32()
    try cursor.finish()
    guard transaction == nil else {
      throw .outOfOrder("transaction \(id) begins inside another one")
    }
    guard commit >= through else {
      throw .outOfOrder("transaction \(id) has the position \(commit), before the last one's \(through)")
    }
    transaction = Transaction(id: id, commit: commit)
    serial += 1
    return .began(transaction: id)
  }

  private mutating func commit(_ cursor: inout PgOutputCursor) throws(PgOutputError) -> LogEvent {
    try cursor.skip(1)  // Flags; none is in use.
    let commit = LSN(try cursor.uint64())
    let end = LSN(try cursor.uint64())
    let committedAt = Int64(bitPattern: try cursor.uint64())
    try cursor.finish()
    guard let open = transaction else { throw .outOfOrder("a commit at \(commit) without its begin") }
    guard commit == open.commit, end >= commit else {
      throw .outOfOrder("the commit of transaction \(open.id) is at \(commit), not at \(open.commit)")
    }
    transaction = nil
    through = end
    return .committed(Commit(transaction: open.id, record: commit, end: end, committedAt: committedAt))
  }

  // MARK: Relations

  private mutating func relation(_ cursor: inout PgOutputCursor) throws(PgOutputError) -> LogEvent {
    let relation = try PgOutputRelation(&cursor)
    guard let table = catalogue[relation.id], asked == relation.id || !isNews(relation, table) else {
      asked = relation.id
      return .unknownRelation(id: relation.id, schema: relation.schema, name: relation.name)
    }
    asked = nil
    bind(relation, table)
    return .nothing
  }

  /// Whether the caller should look into the catalogue again: the relation has changed under way, or what
  /// was learnt does not fit it. Only where rules are concerned.
  private func isNews(_ relation: PgOutputRelation, _ table: CatalogueTable) -> Bool {
    if let index = indexOf[relation.id], relations[index].bound.relation != relation,
      !relations[index].bound.rules.isEmpty
    {
      return true
    }
    return BoundRelation.disagree(relation, table, plan)
  }

  private mutating func bind(_ relation: PgOutputRelation, _ table: CatalogueTable) {
    let bound = BoundRelation(relation, catalogue: table, plan: plan)
    if let index = indexOf[relation.id] {
      relations[index] = KnownRelation(bound)
    } else {
      indexOf[relation.id] = relations.count
      relations.append(KnownRelation(bound))
    }
    row.makeRoom(for: bound.slotCount)
  }

  /// The relation of a row, which only a transaction can hold.
  private mutating func rowRelation(_ cursor: inout PgOutputCursor) throws(PgOutputError) -> Int {
    let id = try cursor.uint32()
    guard transaction != nil else { throw .outOfOrder("a row of relation \(id) outside any transaction") }
    if id == lastID, lastIndex >= 0 { return lastIndex }
    guard let index = indexOf[id] else { throw .unknownRelation(id) }
    lastID = id
    lastIndex = index
    return index
  }

  private mutating func truncate(_ cursor: inout PgOutputCursor) throws(PgOutputError) -> LogEvent {
    let count = try cursor.count32()
    try cursor.skip(1)  // CASCADE and RESTART IDENTITY: the relations they reach are listed too.
    guard transaction != nil else { throw .outOfOrder("a TRUNCATE outside any transaction") }
    var event = LogEvent.nothing
    for _ in 0..<count {
      let id = try cursor.uint32()
      guard let index = indexOf[id] else { throw .unknownRelation(id) }
      guard event == .nothing, let rule = relations[index].bound.rules.first(where: \.truncate) else {
        continue
      }
      event = .doubt(.truncated(table: plan.tableNames[rule.table]))
    }
    try cursor.finish()
    return event
  }

  // MARK: Rows

  private mutating func insert(
    _ cursor: inout PgOutputCursor, _ batch: inout KeyBatch
  ) throws(PgOutputError) -> LogEvent {
    let index = try rowRelation(&cursor)
    try expect(UInt8(ascii: "N"), &cursor)
    try TupleValue.readTuple(&cursor, slots: relations[index].bound.slots, into: &row.new)
    try cursor.finish()
    return collect(.insert, index, hasOld: false, cursor.bytes, &batch)
  }

  private mutating func update(
    _ cursor: inout PgOutputCursor, _ batch: inout KeyBatch
  ) throws(PgOutputError) -> LogEvent {
    let index = try rowRelation(&cursor)
    let at = cursor.at
    let tag = try cursor.byte()
    let hasOld = tag == UInt8(ascii: "K") || tag == UInt8(ascii: "O")
    if hasOld {
      try TupleValue.readTuple(&cursor, slots: relations[index].bound.slots, into: &row.old)
      try expect(UInt8(ascii: "N"), &cursor)
    } else if tag != UInt8(ascii: "N") {
      throw .unknownTag(tag, at: at)
    }
    try TupleValue.readTuple(&cursor, slots: relations[index].bound.slots, into: &row.new)
    try cursor.finish()
    return collect(.update, index, hasOld: hasOld, cursor.bytes, &batch)
  }

  private mutating func delete(
    _ cursor: inout PgOutputCursor, _ batch: inout KeyBatch
  ) throws(PgOutputError) -> LogEvent {
    let index = try rowRelation(&cursor)
    let at = cursor.at
    let tag = try cursor.byte()
    guard tag == UInt8(ascii: "K") || tag == UInt8(ascii: "O") else { throw .unknownTag(tag, at: at) }
    try TupleValue.readTuple(&cursor, slots: relations[index].bound.slots, into: &row.old)
    try cursor.finish()
    return collect(.delete, index, hasOld: true, cursor.bytes, &batch)
  }

  private func expect(_ tag: UInt8, _ cursor: inout PgOutputCursor) throws(PgOutputError) {
    let at = cursor.at
    let found = try cursor.byte()
    guard found == tag else { throw .unknownTag(found, at: at) }
  }

  /// Applies every rule of the relation to the row that has been read.
  private mutating func collect(
    _ operation: RowOperation, _ index: Int, hasOld: Bool, _ message: UnsafeRawBufferPointer,
    _ batch: inout KeyBatch
  ) -> LogEvent {
    guard let open = transaction, !open.overflowed else { return .nothing }
    var event = LogEvent.nothing
    let relation = relations[index]
    for number in relation.bound.rules.indices {
      let rule = relation.bound.rules[number]
      var isPassed = true
      switch operation {
      case .insert: guard rule.insert else { continue }
      case .update:
        guard rule.update else { continue }
        isPassed = !hasOld || row.changes(rule, relation.bound, message)
      case .delete: guard rule.delete else { continue }
      case .truncate: continue
      }
      if rule.condition >= 0 {
        isPassed = row.meets(
          operation, rule, relation.bound, hasOld: hasOld, isPassed: isPassed, message)
      }
      guard isPassed else { continue }
      if event == .nothing { event = .rows }
      changes[rule.table * 3 + (operation == .insert ? 0 : operation == .update ? 1 : 2)] += 1
      let reason: String?
      if rule.isBroken {
        reason = relation.bound.brokenReasons[number]
      } else {
        reason =
          row.appendKeys(
            operation, rule, relation.bound, hasOld: hasOld, message, transaction: open.id, &batch
          ).reason
      }
      if let reason, let doubt = firstDoubt(rule.table, reason) { event = .doubt(doubt) }
    }
    return overflow(batch) ?? event
  }

  /// After keys or groups have been appended: the doubt, once the transaction has more of them than the limit.
  mutating func overflow(_ batch: borrowing KeyBatch) -> LogEvent? {
    if batch.count - batch.completeCount > maximumKeys || batch.askCount > maximumKeys {
      transaction?.overflowed = true
      return .doubt(.tooManyKeys(limit: maximumKeys))
    }
    if batch.groupCount - batch.completeGroupCount > PendingGroups.most {
      transaction?.overflowed = true
      return .doubt(.tooManyGroups(limit: PendingGroups.most))
    }
    return nil
  }

  /// Nil if the rule has already been doubted in this transaction: one doubt is as good as many.
  private mutating func firstDoubt(_ table: Int, _ reason: String) -> Doubt? {
    guard doubted[table] != serial else { return nil }
    doubted[table] = serial
    return .brokenRule(table: plan.tableNames[table], reason: reason)
  }
}

extension CatalogueTable {
  /// A stand-in for a relation that the log still speaks of but the catalogue no longer has.
  public static func dropped(id: UInt32, schema: String, name: String) -> CatalogueTable {
    CatalogueTable(
      id: id, schema: schema, name: name, rootSchema: schema, rootName: name, kind: "r", persistence: "p",
      identity: .primaryKey, columns: [], hasRowFilter: false, publishedColumns: nil)
  }
}

private final class KnownRelation: Sendable {
  let bound: BoundRelation

  init(_ bound: BoundRelation) { self.bound = bound }
}
