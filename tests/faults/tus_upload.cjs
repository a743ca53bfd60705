// Uploads a file with tus-js-client: node tus_upload.cjs ENDPOINT FILE URLS
const fs = require('node:fs')
const tus = require('tus-js-client')

const [endpoint, path, urls] = process.argv.slice(2)
const upload = new tus.Upload(fs.createReadStream(path), {
  endpoint,
  chunkSize: 200000,
  uploadSize: fs.statSync(path).size,
  metadata: { filename: 'small.zip', filetype: 'application/zip' },
  retryDelays: Array(40).fill(250),
  urlStorage: new tus.FileUrlStorage(urls),
  fingerprint: async () => path,
  onShouldRetry: () => true,
  onError(error) {
    console.log(`failed: ${error}`)
    process.exit(1)
  },
  onSuccess({ lastResponse }) {
    console.log(`dataset ${lastResponse.getHeader('Regrow-Dataset')}`)
  },
  onAfterResponse(request, response) {
    if (request.getMethod() === 'HEAD') console.log(`goes on at ${response.getHeader('Upload-Offset')}`)
  },
})
upload.findPreviousUploads().then((previous) => {
  if (previous.length > 0) upload.resumeFromPreviousUpload(previous[0])
  upload.start()
})
