// Runs the suites of http-cache-tests through a proxy and prints what became of
// each test: node run.mjs DIRECTORY URL [ID...], where DIRECTORY has node_modules
// and all tests are meant if none is named.
import path from 'path'
import { pathToFileURL } from 'url'

const [directory, base, ...ids] = process.argv.slice(2)
const load = file => import(pathToFileURL(path.join(directory, 'node_modules', file)))
const suites = (await load('http-cache-tests/tests/index.mjs')).default
const { runTests, getResults } = await load('http-cache-tests/client/runner.mjs')
const fetch = (await load('node-fetch/lib/index.mjs')).default

const tests = suites.flatMap(suite => suite.tests)
  .filter(test => test.browser_only !== true && (ids.length === 0 || ids.includes(test.id)))
const atOnce = 1000 // all of them: each waits for seconds now and then
await runTests([{ tests }], fetch, false, base, atOnce)
const results = getResults()
console.log(JSON.stringify(tests.map(test => ({
  id: test.id,
  kind: test.kind || 'required',
  needs: test.depends_on || [],
  passed: results[test.id] === true,
  why: results[test.id] === true ? '' : String(results[test.id])
}))))
