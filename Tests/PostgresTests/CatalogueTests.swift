import Configuration
import Invalidation
import TestSupport
import Testing

@testable import Postgres

@Suite("The catalogue")
struct CatalogueTests {
  private func column(
    _ name: String, _ type: String, kind: Character = "b", id: UInt32, identity: Bool = false,
    generated: Bool = false, notNull: Bool = false
  ) -> CatalogueColumn {
    CatalogueColumn(
      name: name, type: id, typeName: type, typeKind: kind, inIdentity: identity, isGenerated: generated,
      isNotNull: notNull)
  }

  @Test("Columns with domains, enums, generated and dropped ones, and a composite primary key")
  func columns() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TYPE mood AS ENUM ('sad', 'ok');
      CREATE DOMAIN email AS varchar(100);
      CREATE DOMAIN work_email AS email CHECK (value LIKE '%@%');
      CREATE TABLE people (
        tenant int, gone int, id bigint, mail work_email NOT NULL, feels mood, tags text[],
        upper_mail text GENERATED ALWAYS AS (upper(mail)) STORED, "Odd ""name" uuid,
        PRIMARY KEY (id, tenant) INCLUDE (feels));
      ALTER TABLE people DROP COLUMN gone;
      CREATE PUBLICATION \(place.publication) FOR TABLE people;
      """)
    let tables = try Catalogue.read(publication: place.publication, try place.sql())
    let enumID = try #require(UInt32(place.psql("SELECT 'mood'::regtype::oid")))
    let tableID = try #require(UInt32(place.psql("SELECT 'people'::regclass::oid")))
    let wanted = CatalogueTable(
      id: tableID, schema: "public", name: "people", rootSchema: "public", rootName: "people", kind: "r",
      persistence: "p", identity: .primaryKey,
      columns: [
        column("tenant", "int4", id: 23, identity: true, notNull: true),
        column("id", "int8", id: 20, identity: true, notNull: true),
        column("mail", "varchar", id: 1043, notNull: true),
        // An INCLUDE column lies in the index but not in the identity.
        column("feels", "mood", kind: "e", id: enumID),
        column("tags", "_text", id: 1009),
        column("upper_mail", "text", id: 25, generated: true),
        column("Odd \"name", "uuid", id: 2950),
      ], hasRowFilter: false, publishedColumns: nil)
    #expect(tables == [wanted])
  }

  @Test("Every kind of replica identity, and what looks like one but is none")
  func identities() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE by_index (id int PRIMARY KEY, mail text NOT NULL, x int);
      CREATE UNIQUE INDEX by_index_mail ON by_index (mail);
      ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_mail;
      CREATE TABLE by_full (a int, b int); ALTER TABLE by_full REPLICA IDENTITY FULL;
      CREATE TABLE by_nothing (a int PRIMARY KEY); ALTER TABLE by_nothing REPLICA IDENTITY NOTHING;
      CREATE TABLE no_key (a int);
      CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE);
      CREATE TABLE lost_index (a int NOT NULL); CREATE UNIQUE INDEX lost ON lost_index (a);
      ALTER TABLE lost_index REPLICA IDENTITY USING INDEX lost; DROP INDEX lost;
      CREATE PUBLICATION \(place.publication) FOR ALL TABLES;
      """)
    let tables = try Catalogue.read(publication: place.publication, try place.sql())
    let found = Dictionary(
      uniqueKeysWithValues: tables.map { table in
        (table.name, (table.identity, table.columns.filter { $0.inIdentity }.map { $0.name }))
      })
    func expect(_ name: String, _ identity: ReplicaIdentity, _ columns: [String]) {
      #expect(found[name]?.0 == identity)
      #expect(found[name]?.1 == columns)
    }
    expect("by_index", .index, ["mail"])
    expect("by_full", .full, ["a", "b"])
    expect("by_nothing", .nothing, [])
    expect("no_key", .primaryKey, [])
    expect("deferred", .primaryKey, [])
    expect("lost_index", .index, [])
    // The server agrees: to those that have none an application could not write.
    for (name, (_, columns)) in found where name != "by_index" {
      let works = (try? place.psql("UPDATE \(name) SET a = 1")) != nil
      #expect(works == !columns.isEmpty, "\(name)")
    }
  }

  @Test("A partitioned table is its leaves, under the topmost table's name")
  func partitions() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE SCHEMA parts;
      CREATE TABLE orders (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
      CREATE TABLE parts.eu PARTITION OF orders FOR VALUES IN ('eu') PARTITION BY RANGE (id);
      CREATE TABLE parts.eu_1 PARTITION OF parts.eu FOR VALUES FROM (0) TO (100);
      CREATE TABLE us PARTITION OF orders FOR VALUES IN ('us');
      ALTER TABLE orders REPLICA IDENTITY FULL;
      CREATE PUBLICATION \(place.publication) FOR TABLE orders;
      """)
    let session = try place.sql()
    let tables = try Catalogue.read(publication: place.publication, session)
    #expect(tables.map { $0.qualifiedName } == ["parts.eu_1", "public.us"])
    #expect(tables.allSatisfy { $0.rootSchema == "public" && $0.rootName == "orders" && $0.kind == "r" })
    // The identity of the table above does not reach the leaves.
    #expect(tables.allSatisfy { $0.identity == .primaryKey })

    let family = try Catalogue.read(schema: "public", name: "orders", publication: place.publication, session)
    #expect(family.map { $0.qualifiedName } == ["public.orders", "parts.eu", "parts.eu_1", "public.us"])
    #expect(family.map { $0.kind } == ["p", "p", "r", "r"])
    #expect(family[0].identity == .full)

    let leaf = try #require(
      try Catalogue.read(relation: tables[0].id, publication: place.publication, session))
    #expect(leaf == tables[0])
    #expect(try Catalogue.read(relation: 4_000_000_000, publication: place.publication, session) == nil)
  }

  @Test("Row filters and column lists are seen, and unpublished tables read all the same")
  func limits() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE filtered (id int PRIMARY KEY, v text);
      CREATE TABLE listed (id int PRIMARY KEY, v text, w text);
      CREATE TABLE apart (id int PRIMARY KEY);
      CREATE PUBLICATION \(place.publication) FOR TABLE filtered WHERE (id > 10), listed (id, w);
      """)
    let session = try place.sql()
    let tables = try Catalogue.read(publication: place.publication, session)
    #expect(tables.map { $0.name } == ["filtered", "listed"])
    #expect(tables.map { $0.hasRowFilter } == [true, false])
    #expect(tables.map { $0.publishedColumns } == [nil, ["id", "w"]])
    let apart = try Catalogue.read(schema: "public", name: "apart", publication: "none", session)
    #expect(apart.map { $0.name } == ["apart"])
    #expect(apart.first?.publishedColumns == nil)
    #expect(try Catalogue.read(schema: "public", name: "nowhere", publication: "none", session).isEmpty)
    #expect(try Catalogue.read(schema: "public", name: "apart_pkey", publication: "none", session).isEmpty)
    #expect(failure { _ = try Catalogue.read(publication: "none", session) }?.kind == .publicationMissing)
  }

  @Test("A role with REPLICATION and no right on any table reads everything it needs")
  func plainRole() throws {
    let place = try Place()
    let role = "tailer_\(place.database)"
    try place.prepare()
    try place.psql(
      """
      CREATE ROLE \(role) LOGIN REPLICATION;
      CREATE SCHEMA hidden; CREATE TABLE hidden.secret (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE hidden.secret_1 PARTITION OF hidden.secret FOR VALUES FROM (0) TO (9);
      ALTER PUBLICATION \(place.publication) ADD TABLE hidden.secret;
      REVOKE ALL ON SCHEMA public, hidden FROM PUBLIC;
      """)
    let session = try place.sql(user: role)
    #expect(failure { _ = try session.query("SELECT * FROM public.t") }?.sqlState == "42501")
    let own = try Catalogue.read(publication: place.publication, session)
    let superuser = try Catalogue.read(publication: place.publication, try place.sql())
    #expect(own == superuser)
    #expect(own.map { $0.qualifiedName } == ["hidden.secret_1", "public.t"])
    #expect(try SlotStatus.read(place.slot, session)?.plugin == "pgoutput")
    let findings = try PostgresPreflight.examine(
      place.settings(), tables: [TableName(schema: "hidden", name: "secret")], session)
    #expect(findings.allSatisfy { $0.severity == .warning })
    var stream = try place.stream(user: role)
    try stream.start(slot: place.slot, publication: place.publication)
    try place.psql("INSERT INTO hidden.secret VALUES (1)")
    #expect(try collect(&stream) { $0.tags.hasSuffix("C") }.changes == "BIC")
  }

  @Test("What a publication sends: by table, by a table above, by schema, by all; with partitions or without")
  func published() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE bare (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE top (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE leaf PARTITION OF top FOR VALUES FROM (0) TO (9);
      CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE two (id int PRIMARY KEY);
      CREATE SCHEMA s; CREATE TABLE s.three (id int PRIMARY KEY);
      CREATE PUBLICATION \(place.publication) FOR TABLE bare, top, one, TABLES IN SCHEMA s;
      CREATE PUBLICATION every_\(place.database) FOR ALL TABLES;
      """)
    let session = try place.sql()
    let names = ["bare", "top", "leaf", "one", "two", "nowhere"].map { TableName(schema: "public", name: $0) }
    let tables = names + [TableName(schema: "s", name: "three")]
    func unpublished(_ publication: String) throws -> [String] {
      let findings = try PostgresPreflight.examine(publication: publication, tables: tables, session)
      return findings.filter { $0.severity == .error }.map(\.what)
    }
    let nowhere = "Table public.nowhere does not exist."
    #expect(
      try unpublished(place.publication) == [
        "Publication \(place.publication) does not hold table public.two.", nowhere,
      ])
    #expect(try unpublished("every_\(place.database)") == [nowhere])
    #expect(try unpublished("none") == ["Publication none does not exist.", nowhere])
  }

  @Test("Tables that somebody has locked are read all the same")
  func locked() throws {
    let place = try Place()
    try place.psql(
      """
      CREATE TABLE plain (id int PRIMARY KEY);
      CREATE TABLE top (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE leaf PARTITION OF top FOR VALUES FROM (0) TO (9);
      CREATE PUBLICATION \(place.publication) FOR TABLE plain, top;
      """)
    let session = try place.sql()
    let locker = try place.sql()
    _ = try locker.query("BEGIN")
    _ = try locker.query("LOCK TABLE public.plain, public.top IN ACCESS EXCLUSIVE MODE")
    _ = try session.query("SET statement_timeout = '5s'")
    let names = ["plain", "top"].map { TableName(schema: "public", name: $0) }
    let top = try Catalogue.read(schema: "public", name: "top", publication: place.publication, session)
    #expect(top.map(\.name) == ["top", "leaf"])
    #expect(
      try PostgresPreflight.examine(publication: place.publication, tables: names, session) == [])
    let all = try Catalogue.read(publication: place.publication, session)
    #expect(all.map(\.name) == ["leaf", "plain"])
    _ = try locker.query("ROLLBACK")
  }
}
