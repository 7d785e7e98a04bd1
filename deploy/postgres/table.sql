-- The table of `store: postgresql://...`, for those who do not let poller make it. poller needs SELECT, INSERT, UPDATE
-- and DELETE on it: GRANT SELECT, INSERT, UPDATE, DELETE ON poller_rows TO poller;
CREATE TABLE IF NOT EXISTS poller_rows (
    key text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    value bytea NOT NULL,
    write text NOT NULL
) WITH (fillfactor = 70);
