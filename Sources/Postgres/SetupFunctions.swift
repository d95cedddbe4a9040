/// The functions and event triggers that `setup` puts into schema nearside.
///
/// How DDL is heard of:
/// 1. Three event triggers look at each command that changes, rewrites or drops something.
/// 2. If that is a table in a publication of `nearside.publication`, a table above or below such a one, a type
///    of its columns, or such a publication itself, they emit a message into the log.
/// 3. The message is part of the command's transaction, so it stands in the log among the rows, in order, and
///    a command that is rolled back leaves none. The tailer begins a new generation where it meets it.
enum SetupFunctions {
  struct Function: Sendable {
    /// Without the schema.
    var name: String
    var reason: String
    /// What stands between the name and AS.
    var head: String
    var body: String

    var sql: String { "CREATE OR REPLACE FUNCTION nearside.\(name)\(head) AS $nearside$\(body)$nearside$" }
  }

  struct EventTrigger: Sendable {
    var name: String
    var event: String
    var function: String
  }

  /// The messages' prefixes; `LogReader` knows the same.
  static let invalidatePrefix = "nearside.invalidate"
  static let invalidateTagPrefix = "nearside.invalidate_tag"
  static let definitionPrefix = "nearside.ddl"

  private static let path = "SET search_path = pg_catalog, pg_temp"

  /// A zero byte ends each key, since no text of PostgreSQL holds one. The keys are sent as UTF-8, as rows are,
  /// whatever the encoding of the database.
  static let invalidate = Function(
    name: "invalidate",
    reason: "Clears keys with the transaction that calls it. To let a role call it: GRANT USAGE ON SCHEMA "
      + "nearside.",
    head: "(VARIADIC keys text[]) RETURNS void LANGUAGE sql VOLATILE \(path)",
    body: emitting(invalidatePrefix, each: "key", of: "keys"))

  static let invalidateTag = Function(
    name: "invalidate_tag", reason: "The same for every key that has one of these tags.",
    head: "(VARIADIC tags text[]) RETURNS void LANGUAGE sql VOLATILE \(path)",
    body: emitting(invalidateTagPrefix, each: "tag", of: "tags"))

  private static func emitting(_ prefix: String, each name: String, of list: String) -> String {
    """

    SELECT pg_logical_emit_message(true, '\(prefix)',
      string_agg(convert_to(\(name), 'UTF8') || decode('00', 'hex'), ''))
    FROM unnest(\(list)) AS \(name) WHERE \(name) IS NOT NULL HAVING count(*) > 0

    """
  }

  /// The two functions of the event triggers, whose only difference is what they see. STABLE queries of an
  /// event trigger see the catalogue as the command found it, VOLATILE ones as it left it; of what has been
  /// dropped only the former still shows which table it was a partition of.
  static func noteDefinition(serverVersion: Int) -> [Function] {
    let body = noteBody(serverVersion: serverVersion)
    let head = "() RETURNS event_trigger LANGUAGE plpgsql"
    return [
      Function(
        name: "note_change", reason: "Says in the log that the definition of a published table has changed.",
        head: "\(head) VOLATILE SECURITY DEFINER \(path)", body: body),
      Function(
        name: "note_drop",
        reason: "The same for what was dropped; STABLE, so that it sees what was there before.",
        head: "\(head) STABLE SECURITY DEFINER \(path)", body: body),
    ]
  }

  static let eventTriggers = [
    EventTrigger(name: "nearside_change", event: "ddl_command_end", function: "note_change"),
    EventTrigger(name: "nearside_rewrite", event: "table_rewrite", function: "note_change"),
    EventTrigger(name: "nearside_drop", event: "sql_drop", function: "note_drop"),
  ]

  static let functionNames = ["invalidate", "invalidate_tag", "note_change", "note_drop"]

  /// Whatever goes wrong in it, the command goes on: then there is a message too many rather than none.
  ///
  /// CREATE TABLE is left out, since a new table or partition has no row that a cache could know.
  private static func noteBody(serverVersion: Int) -> String {
    // Publications of whole schemas came with version 15.
    let hasSchemas = serverVersion >= 150_000
    let ofSchemas =
      hasSchemas
      ? """

              UNION SELECT c.oid FROM ours JOIN pg_publication_namespace s ON s.pnpubid = ours.id
              JOIN pg_class c ON c.relnamespace = s.pnnspid AND c.relkind IN ('r', 'p')
      """ : ""
    let schemaEntries =
      hasSchemas
      ? """

              OR EXISTS (SELECT FROM touched t JOIN pg_publication_namespace s ON s.oid = t.id
                JOIN ours ON ours.id = s.pnpubid WHERE t.class = 'pg_publication_namespace'::regclass)
      """ : ""
    return """

      DECLARE
        concerned boolean;
        classes oid[];
        objects oid[];
      BEGIN
        BEGIN
          CASE tg_event
          WHEN 'table_rewrite' THEN
            classes := ARRAY['pg_class'::regclass::oid];
            objects := ARRAY[pg_event_trigger_table_rewrite_oid()];
          WHEN 'sql_drop' THEN
            SELECT array_agg(d.classid), array_agg(d.objid) INTO classes, objects
            FROM pg_event_trigger_dropped_objects() d WHERE NOT d.is_temporary;
          ELSE
            SELECT array_agg(d.classid), array_agg(d.objid) INTO classes, objects
            FROM pg_event_trigger_ddl_commands() d
            WHERE d.command_tag NOT IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'COMMENT',
              'SECURITY LABEL');
          END CASE;
          WITH RECURSIVE
            touched(class, id) AS (SELECT * FROM unnest(classes, objects)),
            ours(id, all_tables) AS (
              SELECT p.oid, p.puballtables
              FROM pg_publication p JOIN nearside.publication n ON n.name = p.pubname),
            published(id) AS (
              SELECT r.prrelid FROM ours JOIN pg_publication_rel r ON r.prpubid = ours.id
              UNION SELECT c.oid FROM ours JOIN pg_class c ON ours.all_tables AND c.relkind IN ('r', 'p')
                AND c.relpersistence = 'p' JOIN pg_namespace s ON s.oid = c.relnamespace
                AND s.nspname NOT IN ('pg_catalog', 'information_schema', 'nearside')\(ofSchemas)),
            below(id) AS (
              SELECT id FROM published
              UNION SELECT i.inhrelid FROM below JOIN pg_inherits i ON i.inhparent = below.id),
            above(id) AS (
              SELECT id FROM published
              UNION SELECT i.inhparent FROM above JOIN pg_inherits i ON i.inhrelid = above.id),
            family(id) AS (SELECT id FROM below UNION SELECT id FROM above),
            relations(id) AS (
              SELECT t.id FROM touched t WHERE t.class = 'pg_class'::regclass
              UNION SELECT c.oid FROM touched t JOIN pg_class c ON c.relnamespace = t.id
              WHERE t.class = 'pg_namespace'::regclass
              UNION SELECT x.indrelid FROM touched t JOIN pg_index x ON x.indexrelid = t.id
              WHERE t.class = 'pg_class'::regclass AND x.indisreplident
              UNION SELECT a.attrelid FROM touched t
              JOIN pg_type y ON t.id IN (y.oid, y.typelem, y.typbasetype)
              JOIN pg_attribute a ON a.atttypid = y.oid AND NOT a.attisdropped
              WHERE t.class = 'pg_type'::regclass)
          SELECT EXISTS (SELECT FROM relations JOIN family USING (id))
            OR EXISTS (SELECT FROM touched t JOIN ours USING (id) WHERE t.class = 'pg_publication'::regclass)
            -- What a renamed publication was called before is not told.
            OR tg_tag = 'ALTER PUBLICATION' AND 'pg_publication'::regclass = ANY (classes)
            OR EXISTS (SELECT FROM touched t JOIN pg_publication_rel r ON r.oid = t.id
              JOIN ours ON ours.id = r.prpubid WHERE t.class = 'pg_publication_rel'::regclass)\(schemaEntries)
            -- A dropped table whose past cannot be seen.
            OR tg_event = 'sql_drop' AND EXISTS (SELECT FROM touched t WHERE t.class = 'pg_class'::regclass
              AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.id))
          INTO concerned;
        EXCEPTION WHEN OTHERS THEN
          concerned := true;
        END;
        IF concerned THEN
          PERFORM pg_logical_emit_message(true, '\(definitionPrefix)', tg_tag);
        END IF;
      EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'nearside: %', sqlerrm;
      END

      """
  }
}
