// What a program does with dockerode: node dockerode.js SOCKET, with NODE_PATH naming where dockerode is.
'use strict'
const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { PassThrough } = require('node:stream')
const { text } = require('node:stream/consumers')
const Docker = require('dockerode')
const tar = require('tar-stream')

const docker = new Docker({ socketPath: process.argv[2] })
const box = 'kist.test/busybox'
const own = { 'of.dockerode': 'yes' }

// collect gathers a stream that dockerode or we write to.
function collect () {
  const s = new PassThrough()
  let got = ''
  s.on('data', (d) => { got += d })
  return Object.assign(s, { got: () => got })
}

// until waits for what comes on another connection than the answer that was waited for.
async function until (holds) {
  for (let i = 0; i < 500 && !holds(); i++) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

const ended = (s) => new Promise((resolve, reject) => s.on('end', resolve).on('close', resolve).on('error', reject))
const idle = (more) => docker.createContainer({ Image: box, Cmd: ['sleep', '1000'], Labels: own, ...more })

const steps = {
  async 'ping, version, info, df' () {
    assert.equal((await docker.ping()).toString(), 'OK')
    assert.ok((await docker.version()).ApiVersion)
    assert.ok((await docker.info()).Images >= 1)
    const df = await docker.df() // A client that names no version gets the newest, in which the lists have become sums.
    assert.ok(df.ImageUsage.TotalCount >= 1)
  },

  async 'run, with output apart and its status' () {
    const out = collect()
    const bad = collect()
    const [result, container] = await docker.run(box, ['sh', '-c', 'echo out; echo bad >&2; exit 5'], [out, bad], { Tty: false, Labels: own })
    assert.equal(result.StatusCode, 5)
    await until(() => out.got() && bad.got())
    assert.equal(out.got(), 'out\n')
    assert.equal(bad.got(), 'bad\n')
    await container.remove()
  },

  async 'run with a terminal' () {
    const out = collect()
    const [result, container] = await docker.run(box, ['sh', '-c', 'tty; echo $COLUMNS; stty size'], out, { Tty: true, Env: ['COLUMNS=77'], Labels: own })
    assert.equal(result.StatusCode, 0)
    await until(() => out.got().includes('\n', 12))
    assert.match(out.got(), /^\/dev\/pts\/0\r\n77\r\n/)
    await container.remove()
  },

  async 'attach with input over an upgraded connection' () {
    const c = await docker.createContainer({ Image: box, Cmd: ['sh', '-c', 'read a; echo got $a; read b || echo end'], OpenStdin: true, StdinOnce: true, AttachStdin: true, Labels: own })
    const s = await c.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true })
    const out = collect()
    c.modem.demuxStream(s, out, out)
    const done = ended(s)
    await c.start()
    s.write('something\n')
    s.end()
    assert.equal((await c.wait()).StatusCode, 0)
    await done
    assert.equal(out.got(), 'got something\nend\n')
    await c.remove()
  },

  async 'exec: output, input, status, resize' () {
    const c = await idle()
    await c.start()
    const e = await c.exec({ Cmd: ['sh', '-c', 'cat; exit 4'], AttachStdin: true, AttachStdout: true, AttachStderr: true })
    const s = await e.start({ hijack: true, stdin: true })
    const out = collect()
    docker.modem.demuxStream(s, out, out)
    s.end('through\n')
    await ended(s)
    assert.equal(out.got(), 'through\n')
    assert.equal((await e.inspect()).ExitCode, 4)
    const t = await c.exec({ Cmd: ['sh', '-c', 'sleep 0.3; stty size'], Tty: true, AttachStdout: true })
    const screen = await t.start({ Tty: true })
    await t.resize({ h: 33, w: 99 })
    assert.equal((await text(screen)).trim(), '33 99')
    await c.remove({ force: true })
  },

  async 'logs: all at once, followed, by time' () {
    const c = await docker.createContainer({ Image: box, Cmd: ['sh', '-c', 'for i in 1 2 3; do echo line $i; sleep 0.1; done'], Labels: own })
    await c.start()
    const s = await c.logs({ follow: true, stdout: true, stderr: true })
    const out = collect()
    c.modem.demuxStream(s, out, out)
    await ended(s)
    assert.equal(out.got(), 'line 1\nline 2\nline 3\n')
    assert.match((await c.logs({ stdout: true, tail: 1 })).toString(), /line 3\n$/)
    assert.equal((await c.logs({ stdout: true, since: Math.floor(Date.now() / 1000) + 3600 })).length, 0)
    await c.remove()
  },

  async 'stats, once and as a stream' () {
    const c = await idle({ HostConfig: { Memory: 32 << 20, PidsLimit: 50 } })
    await c.start()
    const once = await c.stats({ stream: false, 'one-shot': true })
    assert.equal(once.memory_stats.limit, 32 << 20)
    assert.equal(once.pids_stats.limit, 50)
    const s = await c.stats({ stream: true })
    const first = await new Promise((resolve) => s.once('data', resolve))
    assert.ok(JSON.parse(first).networks.eth0)
    s.destroy()
    await c.remove({ force: true })
  },

  async 'events while a container lives' () {
    const s = await docker.getEvents({ filters: { type: ['container'], label: ['watched'] } })
    const seen = []
    const destroyed = new Promise((resolve) => {
      s.on('data', (d) => {
        for (const line of d.toString().trim().split('\n')) {
          seen.push(JSON.parse(line).Action)
        }
        if (seen.includes('destroy')) resolve()
      })
    })
    const c = await docker.createContainer({ Image: box, Cmd: ['true'], Labels: { watched: '' } })
    await c.start()
    await c.wait()
    await c.remove()
    await destroyed
    s.destroy()
    assert.deepEqual(seen, ['create', 'start', 'die', 'destroy'])
  },

  async 'a build with its progress, from a directory' () {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'dockerode-'))
    fs.writeFileSync(path.join(dir, 'Dockerfile'), `FROM ${box}\nARG WHO\nRUN echo for $WHO >/made\nCOPY data /\nCMD cat /made /data\n`)
    fs.writeFileSync(path.join(dir, 'data'), 'data\n')
    const s = await docker.buildImage({ context: dir, src: ['Dockerfile', 'data'] }, { t: 'dockerode:built', buildargs: { WHO: 'node' }, labels: own })
    const told = await new Promise((resolve, reject) => docker.modem.followProgress(s, (err, list) => err ? reject(err) : resolve(list)))
    fs.rmSync(dir, { recursive: true })
    assert.ok(told.some((m) => m.stream && m.stream.includes('Successfully built')), JSON.stringify(told))
    const out = collect()
    const [, c] = await docker.run('dockerode:built', null, out, { HostConfig: { AutoRemove: false } })
    await until(() => out.got().includes('data'))
    assert.match(out.got(), /for node\r?\ndata/)
    await c.remove()
    assert.ok((await docker.getImage('dockerode:built').history()).length >= 4)
    await docker.getImage('dockerode:built').tag({ repo: 'dockerode', tag: 'again' })
    await docker.getImage('dockerode:again').remove()
    await docker.getImage('dockerode:built').remove()
  },

  async 'a build that fails' () {
    const pack = tar.pack()
    pack.entry({ name: 'Dockerfile' }, `FROM ${box}\nRUN exit 6\n`)
    pack.finalize()
    const s = await docker.buildImage(pack, {})
    const told = await new Promise((resolve, reject) => docker.modem.followProgress(s, (err, list) => err ? reject(err) : resolve(list)))
    assert.match(told.at(-1).error, /returned a non-zero code: 6/)
    assert.equal(told.at(-1).errorDetail.code, 6)
  },

  async 'files in and out' () {
    const c = await idle()
    const pack = tar.pack()
    pack.entry({ name: 'dir/file', mode: 0o640, uid: 7 }, 'text')
    pack.finalize()
    await c.putArchive(pack, { path: '/tmp' })
    const extract = tar.extract()
    const got = {}
    extract.on('entry', async (header, stream, next) => { got[header.name] = [header.uid, await text(stream)]; next() })
    ;(await c.getArchive({ path: '/tmp/dir' })).pipe(extract)
    await new Promise((resolve) => extract.on('finish', resolve))
    assert.deepEqual(got['dir/file'], [7, 'text'])
    const info = await c.infoArchive({ path: '/tmp/dir/file' })
    const stat = JSON.parse(Buffer.from(info.headers['x-docker-container-path-stat'], 'base64').toString())
    info.resume() // Else the connection stays.
    assert.equal(stat.name, 'file')
    assert.ok((await c.changes()).some((d) => d.Path === '/tmp/dir/file'))
    await c.remove()
  },

  async 'a network, a volume, ports' () {
    const v = await docker.createVolume({ Name: 'dockerode', Labels: own })
    assert.equal(v.name ?? v.Name, 'dockerode')
    const n = await docker.createNetwork({ Name: 'dockerode', Labels: own, IPAM: { Config: [{ Subnet: '10.79.0.0/24' }] } })
    const c = await idle({
      ExposedPorts: { '80/tcp': {} },
      HostConfig: { Binds: ['dockerode:/data'], NetworkMode: 'dockerode', PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1' }] } },
      NetworkingConfig: { EndpointsConfig: { dockerode: { Aliases: ['known'], IPAMConfig: { IPv4Address: '10.79.0.7' } } } }
    })
    await c.start()
    const seen = await c.inspect()
    assert.equal(seen.NetworkSettings.Networks.dockerode.IPAddress, '10.79.0.7')
    assert.match(seen.NetworkSettings.Ports['80/tcp'][0].HostPort, /^\d+$/)
    assert.deepEqual(Object.values((await n.inspect()).Containers).map((x) => x.IPv4Address), ['10.79.0.7/24'])
    await assert.rejects(n.remove(), (err) => err.statusCode === 403 && /has active endpoints/.test(err.message))
    await assert.rejects(docker.getVolume('dockerode').remove(), (err) => err.statusCode === 409)
    await c.stop({ t: 0 })
    await c.remove()
    await n.remove()
    await docker.getVolume('dockerode').remove()
  },

  async 'pause, rename, update, top, kill, restart, commit, prune' () {
    const c = await idle({ name: 'dockerode' })
    await c.start()
    await c.pause()
    assert.equal((await c.inspect()).State.Status, 'paused')
    await c.unpause()
    await c.rename({ name: 'dockerode2' })
    await c.update({ Memory: 48 << 20, MemorySwap: 48 << 20 })
    assert.deepEqual((await c.top({ ps_args: 'aux' })).Titles.slice(0, 2), ['USER', 'PID'])
    await c.restart({ t: 0 })
    await c.kill({ signal: 'KILL' })
    assert.equal((await c.wait()).StatusCode, 137)
    await c.commit({ repo: 'dockerode', tag: 'made', changes: 'ENV A=b' })
    assert.ok((await docker.getImage('dockerode:made').inspect()).Config.Env.includes('A=b'))
    await docker.getImage('dockerode:made').remove()
    assert.ok((await docker.pruneContainers({ filters: { label: ['of.dockerode'] } })).ContainersDeleted.length >= 1)
    assert.equal((await docker.listContainers({ all: true, filters: { label: ['of.dockerode'] } })).length, 0)
  },

  async 'errors with their status' () {
    await assert.rejects(docker.getContainer('nosuch').inspect(), (err) => err.statusCode === 404 && /No such container: nosuch/.test(err.message))
    await assert.rejects(docker.createContainer({ Image: 'nosuch' }), (err) => err.statusCode === 404)
    await assert.rejects(docker.createContainer({ Image: box, name: 'a b' }), (err) => err.statusCode === 400)
    await assert.rejects(docker.swarmInspect(), (err) => err.statusCode === 503)
  }
}

async function main () {
  for (const [name, step] of Object.entries(steps)) {
    const begin = Date.now()
    try {
      await step()
    } catch (err) {
      console.error(`${name}: ${err.stack}`)
      process.exit(1)
    }
    console.log(`did: ${name}: ${((Date.now() - begin) / 1000).toFixed(2)} s`)
  }
}

main()
