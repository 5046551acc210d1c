"""The tables, functions and triggers, and how they came to be; every step runs once, in order."""

# The first four tables are those of existing bridges, in the same words, for programs that speak
# PostgreSQL. JSON is TEXT: jsonb refuses what JSON may hold (\u0000).
#
# A message has a mark, `unseen`, until a poller has looked at it: numbers do not commit in their
# order, so nothing may be looked for beyond the last one. Who reads beyond a number asks `decided`.
_TABLES = """
CREATE FUNCTION autopoll.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS
  'SELECT CAST(extract(epoch FROM clock_timestamp())*1000 AS bigint)';
-- What may still be committed lies beyond the number in a lock that its transaction holds.
CREATE FUNCTION autopoll.number_lock(sequence text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT (CAST(24944 AS bigint) << 48)
    | (CAST(CASE sequence WHEN 'messages_id' THEN 1 ELSE 2 END AS bigint) << 40) $$;
CREATE FUNCTION autopoll.last_number(sequence text) RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(pg_sequence_last_value(CAST('autopoll.' || sequence AS regclass)), 0) $$;
CREATE FUNCTION autopoll.next_number(sequence text) RETURNS bigint
  LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF coalesce(current_setting('autopoll.' || sequence, true), '') = '' THEN
    PERFORM pg_advisory_xact_lock_shared(
      autopoll.number_lock(sequence) | autopoll.last_number(sequence));
    PERFORM set_config('autopoll.' || sequence, 'locked', true);  -- until the commit
  END IF;
  RETURN nextval(CAST('autopoll.' || sequence AS regclass));
END $$;
-- Up to which number everything is committed, or will never be; for a statement after this one.
CREATE FUNCTION autopoll.decided(sequence text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  newest bigint := autopoll.last_number(sequence);  -- first: who takes a later one is no concern
  lowest bigint;
BEGIN
  SELECT min(key & ((CAST(1 AS bigint) << 40) - 1)) INTO lowest FROM (
      SELECT (CAST(classid AS bigint) << 32) | CAST(objid AS bigint) AS key FROM pg_locks
      WHERE locktype = 'advisory' AND objsubid = 1 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) held
    WHERE key >> 40 = autopoll.number_lock(sequence) >> 40;
  RETURN least(newest, lowest);
END $$;
CREATE FUNCTION autopoll.json_text(document text, field text) RETURNS text
  LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN document::json->>field;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
  RETURN NULL;
END $$;
CREATE FUNCTION autopoll.json_integer(document text, field text) RETURNS bigint
  LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN CAST(document::json->>field AS bigint);
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
  RETURN NULL;
END $$;
CREATE FUNCTION autopoll.head_of(message text) RETURNS text
  LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF octet_length(message) <= 33554432 THEN  -- what begins with a mark or space is read, too
    RETURN (SELECT json_build_object('type', type, 'query_id', query_id)
      FROM json_to_record(CAST(ltrim(message, E' \\t\\r\\n\\u00a0\\ufeff') AS json))
        AS fields(type text, query_id json));
  END IF;
  RETURN left(message, 64);
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
  RETURN left(message, 64);
END $$;

CREATE TABLE autopoll.conversations (
  id text COLLATE "C" PRIMARY KEY,
  session_a_role text, session_b_role text,
  session_a_token text COLLATE "C", session_b_token text COLLATE "C",
  created_at text COLLATE "C", expires_at text,
  number bigint GENERATED ALWAYS AS IDENTITY) WITH (fillfactor=70);
CREATE SEQUENCE autopoll.messages_id;
CREATE TABLE autopoll.messages (
  id bigint PRIMARY KEY DEFAULT autopoll.next_number('messages_id'),
  conversation_id text COLLATE "C", from_session text COLLATE "C", to_session text COLLATE "C",
  message text, metadata text, timestamp text COLLATE "C", read integer DEFAULT 0,
  unseen boolean NOT NULL DEFAULT true) WITH (fillfactor=70);
ALTER SEQUENCE autopoll.messages_id OWNED BY autopoll.messages.id;
CREATE TABLE autopoll.session_status (
  conversation_id text COLLATE "C", session_id text COLLATE "C", status text, last_heartbeat text,
  PRIMARY KEY (conversation_id, session_id)) WITH (fillfactor=70);
CREATE SEQUENCE autopoll.audit_log_id;
CREATE TABLE autopoll.audit_log (
  id bigint PRIMARY KEY DEFAULT autopoll.next_number('audit_log_id'),
  conversation_id text COLLATE "C", session_id text COLLATE "C", action text COLLATE "C",
  details text, timestamp text COLLATE "C");
ALTER SEQUENCE autopoll.audit_log_id OWNED BY autopoll.audit_log.id;

CREATE TABLE autopoll.deliveries (
  message_id bigint PRIMARY KEY,
  conversation_id text COLLATE "C" NOT NULL, to_session text COLLATE "C" NOT NULL,
  shard text COLLATE "C" NOT NULL, lane text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL CHECK(state IN ('queued','ready','leased','done','dead')),
  attempts integer NOT NULL DEFAULT 0, fence integer NOT NULL DEFAULT 0, owner text COLLATE "C",
  lease_until bigint, not_before bigint NOT NULL DEFAULT 0, last_error text,
  enrolled_at bigint NOT NULL, changed_at bigint NOT NULL, settled_at bigint, dismissed_at bigint,
  settled_by text COLLATE "C",
  CHECK((state='leased')=(owner IS NOT NULL)), CHECK((state='leased')=(lease_until IS NOT NULL)),
  CHECK((state IN ('done','dead'))=(settled_at IS NOT NULL))) WITH (fillfactor=70);
CREATE UNIQUE INDEX d_head ON autopoll.deliveries(lane)
  WHERE state IN ('ready','leased') AND strpos(lane,'/')>0;
CREATE INDEX d_ready ON autopoll.deliveries(shard, message_id) WHERE state='ready';
CREATE INDEX d_queued ON autopoll.deliveries(lane, message_id) WHERE state='queued';
CREATE INDEX d_leased ON autopoll.deliveries(message_id) WHERE state='leased';
CREATE INDEX d_dead ON autopoll.deliveries(message_id) WHERE state='dead';
CREATE TABLE autopoll.answers (
  query_id bigint PRIMARY KEY, answer_id bigint NOT NULL, fence integer NOT NULL);
CREATE TABLE autopoll.routes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  conversation_id text COLLATE "C" NOT NULL, session text COLLATE "C" NOT NULL,
  shard text COLLATE "C" NOT NULL, unseen boolean NOT NULL DEFAULT true,
  UNIQUE (conversation_id, session));
CREATE INDEX r_unseen ON autopoll.routes(id) WHERE unseen;
CREATE TABLE autopoll.budgets (
  conversation_id text COLLATE "C" NOT NULL, session text COLLATE "C" NOT NULL,
  spent_until double precision NOT NULL,
  PRIMARY KEY (conversation_id, session)) WITH (fillfactor=70);
CREATE TABLE autopoll.denials (
  conversation_id text COLLATE "C" PRIMARY KEY, audit_id bigint NOT NULL, since bigint NOT NULL,
  count integer NOT NULL) WITH (fillfactor=70);
CREATE TABLE autopoll.usage (
  day text COLLATE "C" NOT NULL, shard text COLLATE "C" NOT NULL,
  input_tokens bigint NOT NULL, output_tokens bigint NOT NULL, cached_tokens bigint NOT NULL,
  cost_usd double precision, answers bigint NOT NULL,
  PRIMARY KEY (day, shard)) WITH (fillfactor=70);
CREATE TABLE autopoll.keys (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  scope text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, digest bytea NOT NULL,
  message_id bigint NOT NULL, made_at bigint NOT NULL, UNIQUE (scope, name));
CREATE INDEX k_age ON autopoll.keys(made_at);
CREATE TABLE autopoll.pollers (
  owner text COLLATE "C" PRIMARY KEY, home text COLLATE "C" NOT NULL, host text NOT NULL,
  version text NOT NULL, folder text NOT NULL, shards text NOT NULL,
  beat_at bigint NOT NULL, beat_until bigint NOT NULL) WITH (fillfactor=70);
CREATE INDEX p_home ON autopoll.pollers(home);

CREATE INDEX m_unread ON autopoll.messages(conversation_id, to_session, id) WHERE read=0;
CREATE INDEX m_unseen ON autopoll.messages(id) WHERE unseen AND read=0;
CREATE INDEX m_conversation ON autopoll.messages(conversation_id, id);
CREATE INDEX c_token_a ON autopoll.conversations(session_a_token);
CREATE INDEX c_token_b ON autopoll.conversations(session_b_token);

-- Rows change a few times within a second and then never: swept up early, the tables stay small.
ALTER TABLE autopoll.deliveries SET (
  autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000);
ALTER TABLE autopoll.messages SET (
  autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_threshold=1000);
ALTER TABLE autopoll.budgets SET (autovacuum_vacuum_threshold=500);
ALTER TABLE autopoll.pollers SET (autovacuum_vacuum_threshold=500);

-- A message that is set back to unread is looked at again.
CREATE FUNCTION autopoll.mark_unseen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.unseen := true;
  RETURN NEW;
END $$;
CREATE TRIGGER set_back BEFORE UPDATE OF read ON autopoll.messages FOR EACH ROW
  WHEN (OLD.read IS DISTINCT FROM 0 AND NEW.read=0) EXECUTE FUNCTION autopoll.mark_unseen();
"""

# What is kept of each attempt, as JSON; hosts of the version before write none.
_HISTORY = "ALTER TABLE autopoll.deliveries ADD COLUMN history text;\n"

STEPS = (_TABLES, _HISTORY)
